"""A small disk of its own under the run folder, which can be full or read-only: a tmpfs, for which one must be root."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

__all__ = ["Disk", "may_mount"]

DISK_BYTES = 48 << 20


class Disk:
    """A tmpfs at this path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def mount(self) -> None:
        """Put it there."""
        _mount("-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "prs-chaos", str(self.path))

    def remount(self, mode: str) -> None:
        """``ro`` or ``rw``."""
        _mount("-o", f"remount,{mode}", str(self.path))

    def keep(self) -> None:
        """Take it away; what lay on it lies in the plain folder afterwards."""
        kept = self.path.with_name("disk-kept")
        shutil.copytree(self.path, kept, symlinks=True)
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)
        self.path.rmdir()
        kept.rename(self.path)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@functools.cache
def may_mount() -> bool:
    """May this process mount a file system?"""
    with tempfile.TemporaryDirectory(prefix="chaos-mount-") as folder:
        disk = Disk(Path(folder))
        try:
            disk.mount()
        except (OSError, subprocess.CalledProcessError):
            return False
        subprocess.run(["umount", folder], check=True)
        return True
