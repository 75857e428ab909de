"""What may stand as ``compute_target``: a value in, the value to keep out. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping

from prs_dask.config.checks import is_address
from prs_dask.config.ssh_target import SSHTarget, is_ssh_url

__all__ = ["as_ssh_target", "compute_target", "is_path"]


def is_path(target: str) -> bool:
    """Is a text that stands for a target the path of a scheduler file?"""
    return not (target.lower() in ("local", "cuda") or is_address(target) or is_ssh_url(target))


def as_ssh_target(value: object) -> object:
    """An SSHTarget where it stands for one, as mapping or URL; else the value as it is.

    Raises
    ------
    SettingsError
        With what is wrong with the hosts.
    """
    if isinstance(value, Mapping) and set(value) == {"ssh"}:
        return SSHTarget.from_mapping(value["ssh"])
    if isinstance(value, str) and is_ssh_url(value):
        return SSHTarget.from_url(value)
    return value


def compute_target(value: object) -> object:
    """A word, an address, a scheduler file, hosts for SSH, a cluster or a Client.

    Clusters and Clients are told by what they have, because Dask is not imported here.

    Raises
    ------
    SettingsError
        With what is wrong with hosts for SSH.
    """
    value = as_ssh_target(value)
    if isinstance(value, SSHTarget):
        return value
    if isinstance(value, (str, os.PathLike)):
        return _text_target(os.fspath(value))
    if isinstance(value, type) or not (hasattr(value, "scheduler_address") or hasattr(value, "scheduler_info")):
        raise ValueError
    return value


def _text_target(text: object) -> object:
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError
    if text.lower() in ("local", "cuda"):
        return text.lower()
    return os.path.abspath(text) if is_path(text) else text
