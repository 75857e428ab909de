"""A host whose key is not that of known_hosts: what to tell of it.

asyncssh looks a host up under the name, the alias and the port that ``~/.ssh/config`` gives to what the user has
written. So does this, or a key that has changed would be told as one that is not known yet.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from typing import Any

import asyncssh

from prs_dask.config import SSHTarget

__all__ = ["untrusted"]


def untrusted(error: Exception, resolved: Any, target: SSHTarget, login: str) -> str | None:
    """Why a host's key is not trusted, and what to do; None where the error is another one.

    Parameters
    ----------
    error
        Of a connection.
    resolved
        asyncssh's options for it, with what ``~/.ssh/config`` says.
    target
        Whose host it is.
    login
        What to write behind ``ssh`` to get there.
    """
    if not isinstance(error, (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed)):
        return None
    is_its_own = re.search(rf" for host {re.escape(resolved.host)}( |$)", error.reason)
    if resolved.tunnel and isinstance(error, asyncssh.HostKeyNotVerifiable) and not is_its_own:
        return f"on the way to it, by {resolved.tunnel}: {error.reason}; log in once with: ssh {login}"
    names = [resolved.host_key_alias or resolved.host]
    if resolved.port != asyncssh.DEFAULT_PORT:
        names.insert(0, f"[{names[0]}]:{resolved.port}")
    given = target.known_hosts or resolved.known_hosts or "~/.ssh/known_hosts"
    files = [given] if isinstance(given, (str, os.PathLike)) else list(given)
    file, paths = os.fspath(files[0]), [os.path.expanduser(one) for one in files]
    known = [name for name in names if _has_keys(paths, name)]
    if isinstance(error, asyncssh.KeyExchangeFailed) and not (known and "host key" in error.reason):
        return None
    if "revoked" in error.reason:
        return f"its key is revoked in {file}"
    if known:
        return (
            f"its key is another one than {file} has: either it was installed anew, or something stands between; "
            f"where the first is sure: ssh-keygen -R {shlex.quote(known[0])} -f {file}"
        )
    if resolved.host_key_alias or resolved.tunnel or resolved.proxy_command:  # of these ssh-keyscan knows nothing
        own = f"-o UserKnownHostsFile={file} " if target.known_hosts else ""
        add = f"ssh {own}{login}"
    else:
        port = "" if resolved.port == asyncssh.DEFAULT_PORT else f"-p {resolved.port} "
        add = f"ssh-keyscan {port}{resolved.host} >> {file}"
    return (
        f"its key is not in {file}, so that nobody knows whether it is the right host; once it is compared "
        f"with what the host says of itself: {add}"
    )


def _has_keys(files: list[str], name: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return any(asyncssh.match_known_hosts(files, name, "", None)[:2])
    return False
