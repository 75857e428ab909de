# What a host does first, in namespaces of its own: PID, network, mounts, UTS, IPC. It ends as an SSH server, PID 1 of the host.
#   host.sh NAME ADDRESS ROOT KEYS SSHD READ_ONLY...
# Of this machine it sees the system's programs and the paths READ_ONLY, none of which it can write to.
set -eu
name=$1 address=$2 root=$3 keys=$4 sshd=$5
shift 5

mount --make-rprivate /
mount -t tmpfs -o mode=755 none "$root"
show() {
  mkdir -p "$root$1"
  mount --bind "$1" "$root$1"
  mount -o remount,bind,ro "$root$1"
}
for top in /bin /sbin /lib /lib32 /lib64 /libx32 /usr /etc; do
  if [ -L $top ]; then cp -P $top "$root$top"; elif [ -d $top ]; then show $top; fi
done
mkdir -m 1777 "$root/tmp"
mkdir -p "$root/root" "$root/run/sshd" "$root/var/tmp" "$root/proc" "$root/sys" "$root/dev"
chmod 711 "$root/root" # Python may lie below it
for path in "$@"; do show "$path"; done
mount --bind "$keys/hosts" "$root/etc/hosts"
mount --bind "$keys/passwd" "$root/etc/passwd"
mkdir -p "$root/home/ann"
chroot "$root" chown ann /home/ann
mkdir -m 755 "$root/run/keys"
cp "$keys/$name" "$root/run/keys/host"
cp "$keys/user.pub" "$root/run/keys/authorized"
chmod 600 "$root/run/keys/host"

mount -t proc proc "$root/proc"
mount -t sysfs -o ro sys "$root/sys"
mount -t tmpfs -o mode=755 none "$root/dev"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind /dev/$device "$root/dev/$device"
done
mkdir -m 1777 "$root/dev/shm"
mkdir "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"

hostname "$name"
ip link set lo up
read -r _ # the wire is there
ip addr add "$address/24" dev eth0
ip link set eth0 up
ip route add default via "${address%.*}.254"
exec chroot "$root" "$sshd" -D -e -f /dev/null -o ListenAddress=0.0.0.0 -o ListenAddress=:: -o Port=22 -o Port=2022 -o HostKey=/run/keys/host \
  -o AuthorizedKeysFile=/run/keys/authorized -o StrictModes=no -o PidFile=none -o UsePAM=no \
  -o PasswordAuthentication=no -o PermitRootLogin=prohibit-password ${HOST_ENVIRONMENT:+-o "SetEnv=$HOST_ENVIRONMENT"}
