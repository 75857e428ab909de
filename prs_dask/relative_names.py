"""Names of files that come from a worker process, checked before anything is written under them. Pure.

They travel as bytes, as file systems know them: a name need not be text.
"""

from __future__ import annotations

import os

__all__ = ["relative_name"]


def relative_name(name: bytes) -> str:
    r"""The name as a path below a folder that it cannot leave.

    Parameters
    ----------
    name
        Relative, its parts separated by ``/``.

    Raises
    ------
    ValueError
        It is none: empty, absolute, or with a part that is empty, ``.`` or ``..``.

    Examples
    --------
    >>> relative_name(b"plots/loss.png")
    'plots/loss.png'
    >>> relative_name(b"../other")
    Traceback (most recent call last):
    ...
    ValueError: found the file name b'../other'; allowed: names below a folder, without empty parts, '.' and '..'
    """
    if b"\0" in name or any(part in (b"", b".", b"..") for part in name.split(b"/")):
        allowed = "names below a folder, without empty parts, '.' and '..'"
        raise ValueError(f"found the file name {name!r}; allowed: {allowed}")
    return os.fsdecode(name)
