"""Several hosts for real, on one machine, of network namespaces.

::

    yard      a PID and a network namespace: a bridge, to which all others are plugged. When it ends, all end.
    node1…    hosts: their own network, mounts, processes, /tmp, homes and name; an SSH server is PID 1,
              on ports 22 and 2022, and lets in root and ann
    driver    where the driver runs: its own network and name, this machine's files

The yard's first process reads its standard input, whose other end this process holds: whatever becomes of this process,
the kernel kills every process of every host and takes their namespaces, file systems and links away. This machine's own
network is never touched. Root only.

``python -m tests.multi_node`` brings hosts up by hand.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import psutil

__all__ = ["ANN", "Host", "Hosts", "may_make_hosts"]

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 20.0
NETWORK = "10.213.7"
DRIVER = f"{NETWORK}.250"
ANN = 1234
"""Number of the user ann."""

YARD = f"""
set -e
mount --make-rprivate /
mount -t proc proc /proc
ip link set lo up
ip link add name bridge type bridge
ip addr add {NETWORK}.254/24 dev bridge
ip link set bridge up
echo up
exec cat
"""
DRIVER_SETUP = f"""
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount --bind "$1/hosts" /etc/hosts
mount --bind "$1/ssh_config" /etc/ssh/ssh_config
hostname driver
ip link set lo up
read -r _
ip addr add {DRIVER}/24 dev eth0
ip link set eth0 up
ip route add default via {NETWORK}.254
echo up
exec cat
"""


def may_make_hosts() -> str:
    """Why this cannot be done here; empty where it can."""
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "sh", "-ec",
         "mount --make-rprivate /; mount -t proc proc /proc; ip link add name a type bridge; "
         "ip link add name b type veth peer name c; hostname tried"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return tried.stderr.strip() if tried.returncode else ""


class Host:
    """One of them."""

    def __init__(self, yard: Yard, number: int, name: str) -> None:
        self.name, self.address = name, f"{NETWORK}.{number}"
        self._yard, self._link, self._number = yard, f"wire{number}", number
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def start(self, command: Sequence[str], environment: dict[str, str], log: IO[bytes]) -> None:
        """Switch it on."""
        kinds = ["--net", "--mount", "--uts", "--ipc", "--pid", "--fork"]
        self._process = subprocess.Popen(
            [*self._yard.enter, "unshare", *kinds, *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
        )
        self.pid = _first_process(self._process, depth=3)
        self._yard.plug(self._link, self.pid, self._number)
        assert self._process.stdin is not None
        self._process.stdin.write(b"the wire is there\n")
        self._process.stdin.flush()

    def until_it_listens(self) -> None:
        """Wait for its SSH server."""
        end = time.monotonic() + PATIENCE
        while self._yard.run("bash", "-c", f"exec 3<>/dev/tcp/{self.address}/22").returncode:
            assert time.monotonic() < end, f"{self.name} does not listen"
            time.sleep(0.05)

    def processes(self, *words: str) -> list[psutil.Process]:
        """Those that run on it, all words in their command lines; without its first."""
        found = []
        for process in psutil.Process(self.pid).children(recursive=True):
            try:
                line = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if all(word in line for word in words):
                found.append(process)
        return found

    def path(self, path: str | os.PathLike[str]) -> Path:
        """Where a path of its lies, seen from here."""
        return Path(f"/proc/{self.pid}/root{os.fspath(path)}")

    def give(self, folder: Path) -> None:
        """Copy a folder to it, to where it lies here, times kept."""
        shutil.copytree(folder, self.path(folder), dirs_exist_ok=True)

    def run(self, *command: str) -> str:
        """What a command says that runs on it."""
        enter = ["nsenter", f"--target={self.pid}", "--net", "--mount", "--uts", "--ipc", "--pid", "--root", "--wd"]
        return subprocess.run([*enter, *command], capture_output=True, text=True, check=True).stdout

    def cut(self) -> None:
        """Pull its network cable."""
        self._yard.link(self._link, "down")

    def mend(self) -> None:
        """Plug it in again."""
        self._yard.link(self._link, "up")

    def kill(self) -> None:
        """All of its processes, at once."""
        os.kill(self.pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait(PATIENCE)
        assert self._process.stdin is not None
        self._process.stdin.close()


class Yard:
    """What all of them live in."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", YARD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"up\n":
            raise OSError("no network namespace with a bridge")
        self._pid = _first_process(self._process, depth=2)
        self.enter = ["nsenter", f"--target={self._pid}", "--net", "--pid", "--mount"]

    def run(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        """A command on the bridge."""
        return subprocess.run(["nsenter", f"--target={self._pid}", "--net", *command], capture_output=True, check=False)

    def plug(self, link: str, pid: int, number: int) -> None:
        """A cable from the bridge to a process's network; a host that is started anew has the card that it had."""
        card = f"02:00:00:00:00:{number:02x}"
        self.run("ip", "link", "delete", link)  # that of a host that was killed goes with its namespace, in a while
        for command in (
            f"ip link add name {link} type veth peer name eth0 address {card} netns {pid}",
            f"ip link set {link} master bridge",
            f"ip link set {link} up",
        ):
            done = self.run(*command.split(" "))
            assert not done.returncode, (command, done.stderr)

    def link(self, link: str, state: str) -> None:
        done = self.run("ip", "link", "set", link, state)
        assert not done.returncode, done.stderr

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(PATIENCE)


class Hosts:
    """So many hosts, until the end of the ``with`` block.

    Parameters
    ----------
    folder
        For keys and logs of SSH servers; new, and of this run alone.
    count
        How many; they are called node1, node2, …
    sshd
        OpenSSH's server.
    environment
        Variables of those who log in.
    """

    def __init__(self, folder: Path, count: int, sshd: str = "/usr/sbin/sshd", **environment: str) -> None:
        self.folder, self._sshd, self._environment = folder, sshd, environment
        self.home = folder / "home"
        self._count = count
        self._by_name: dict[str, Host] = {}

    def __enter__(self) -> Hosts:
        names = [f"node{number + 1}" for number in range(self._count)]
        self._write_keys(names)
        self._yard = Yard()
        try:
            self._log = open(self.folder / "sshd.log", "wb")
            self._start_driver()
            self._by_name = {name: Host(self._yard, number + 1, name) for number, name in enumerate(names)}
            for host in self:
                self.start(host, wait=False)
            for host in self:
                host.until_it_listens()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def __iter__(self) -> Iterator[Host]:
        return iter(self._by_name.values())

    def __getitem__(self, name: str) -> Host:
        return self._by_name[name]

    @property
    def names(self) -> list[str]:
        return list(self._by_name)

    def start(self, host: Host, *, wait: bool = True) -> None:
        """Switch a host on."""
        root = self.folder / host.name
        root.mkdir(exist_ok=True)
        installed = [sys.prefix, sys.base_prefix, str(REPOSITORY)]
        system = ("/usr", "/bin", "/lib", "/etc", "/sbin")
        shown = sorted({os.path.realpath(path) for path in installed} | set(installed))
        shown = [
            path for path in shown if not path.startswith(tuple(f"{top}/" for top in system)) and path not in system
        ]
        script = str(Path(__file__).parent / "host.sh")
        arguments = [host.name, host.address, str(root), str(self.folder / "keys"), self._sshd, *shown]
        variables = {"PYTHONPATH": str(REPOSITORY), **self._environment}
        told = " ".join(f"{name}={value}" for name, value in variables.items())
        environment = {"PATH": os.environ["PATH"], "HOST_ENVIRONMENT": told}
        host.start(["sh", script, *arguments], environment, self._log)
        if wait:
            host.until_it_listens()

    def on_driver(self, *command: str, **settings: Any) -> subprocess.Popen[Any]:
        """Start a command where the driver runs, with the key of the hosts in its home."""
        enter = ["nsenter", f"--target={self._driver_pid}", "--net", "--uts", "--mount", "--pid"]
        environment = {**os.environ, "HOME": str(self.home), "PYTHONPATH": str(REPOSITORY), **settings.pop("env", {})}
        environment.pop("SSH_AUTH_SOCK", None)
        return subprocess.Popen([*enter, *command], env=environment, **settings)

    def _write_keys(self, names: Sequence[str]) -> None:
        keys, ssh = self.folder / "keys", self.home / ".ssh"
        keys.mkdir(parents=True)
        ssh.mkdir(parents=True, mode=0o700)
        for name in (*names, "user", "stranger"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(keys / name)], check=True
            )
        shutil.copy(keys / "user", ssh / "id_ed25519")
        known = [f"{name} {(keys / f'{name}.pub').read_text()}" for name in names]
        (ssh / "known_hosts").write_text("".join(known))
        lines = ["127.0.0.1 localhost", f"{DRIVER} driver"]
        lines += [f"{NETWORK}.{number + 1} {name} {name}-unknown" for number, name in enumerate(names)]
        (keys / "hosts").write_text("\n".join([*lines, ""]))
        (keys / "passwd").write_text(f"{Path('/etc/passwd').read_text()}ann:x:{ANN}:{ANN}::/home/ann:/bin/sh\n")
        # OpenSSH's client looks into the home of /etc/passwd, whatever HOME says.
        (keys / "ssh_config").write_text(f"UserKnownHostsFile {ssh}/known_hosts\nIdentityFile {ssh}/id_ed25519\n")

    def _start_driver(self) -> None:
        setup = ["sh", "-c", DRIVER_SETUP, "sh", str(self.folder / "keys")]
        self._driver = subprocess.Popen(
            [*self._yard.enter, "unshare", "--net", "--uts", "--mount", "--pid", "--fork", *setup],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._driver_pid = _first_process(self._driver, depth=3)
        self._yard.plug("driver", self._driver_pid, 250)
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        self._driver.stdin.write(b"the wire is there\n")
        self._driver.stdin.flush()
        assert self._driver.stdout.readline() == b"up\n"

    def _end(self) -> None:
        self._yard.end()
        for process in (*(host._process for host in self), getattr(self, "_driver", None)):
            if process is not None:
                process.wait(PATIENCE)
                for pipe in filter(None, (process.stdin, process.stdout)):
                    pipe.close()
        self._log.close()


def _first_process(starter: subprocess.Popen[bytes], depth: int) -> int:
    """The PID, seen from here, of PID 1 in a namespace so deep that was made below ``starter``."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert starter.poll() is None, f"{starter.args} has ended with {starter.returncode}"
        for process in psutil.Process(starter.pid).children(recursive=True):
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                continue
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
            if len(numbers) == depth and numbers[-1] == "1":
                return process.pid
        time.sleep(0.01)
    raise TimeoutError(f"{starter.args} has made no namespace")
