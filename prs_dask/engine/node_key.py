"""What tells one host from others, on the scheduler and on its workers."""

from __future__ import annotations

import socket
from pathlib import Path

__all__ = ["node_key"]


def node_key() -> str:
    """The host's name and when its kernel was started."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()}/{boot[:8]}"
