"""SSHTarget: the hosts on which a step run starts its own Dask cluster over SSH. Pure.

Three forms mean the same::

    SSHTarget(["node1", "node2"], user="ann", python="/opt/venv/bin/python")        # Python
    compute_target: {ssh: {hosts: [node1, node2], user: ann, python: /opt/venv/bin/python}}     # YAML
    --compute-target ssh://ann@node1,node2/opt/venv/bin/python                      # the command line
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote

from prs_dask.config import checks
from prs_dask.config.refused import Refused
from prs_dask.config.tls_security import tls_security
from prs_dask.errors import Fault, SettingsError

__all__ = ["SSHHost", "SSHTarget", "is_ssh_url"]

_SCHEME = "ssh://"
_SSH_PORT = 22

_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.\-]*"
_HOST = re.compile(rf"(?:(?P<user>[^@\s:/]+)@)?(?:(?P<name>{_NAME})|\[(?P<v6>[^\[\]\s]+)\])(?::(?P<port>\d+))?")
_CLASS = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+")


class SSHHost(NamedTuple):
    """One of the hosts: as it was written, what it is called, and what SSH shall use where it says so."""

    text: str
    name: str
    user: str | None
    port: int | None


def is_ssh_url(text: str) -> bool:
    """Does it begin as hosts for SSH do? Schemes may be written in any case."""
    return text[: len(_SCHEME)].lower() == _SCHEME


def _parts(text: object) -> SSHHost:
    if not isinstance(text, str):
        raise Refused(f"where {text!r} is no host")
    if _is_v6(text):
        return SSHHost(text, text, None, None)
    match = _HOST.fullmatch(text)
    if match is None and re.fullmatch(r"[^@\s]+:[^@\s]*@.*", text):
        raise Refused("where a password is not taken: SSH keys or an agent are")
    if match is None or not (match["name"] or _is_v6(match["v6"])):
        raise Refused(f"where {text!r} is no host")
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 1 <= port <= 65535:
        raise Refused(f"where {text!r} is no host: ports are 1 to 65535")
    return SSHHost(text, match["name"] or match["v6"], match["user"], port)


def _is_v6(text: str) -> bool:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return False
    if address.scope_id is not None:
        raise Refused(f"where {text!r} names a network card of this machine, which means nothing to the others")
    return True


def _hosts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Sequence) or not value:
        raise ValueError
    for one in value:
        _parts(one)
    return tuple(value)


def _same(one: SSHHost, other: SSHHost) -> bool:
    """Are they one host, whoever logs in, or one login in two spellings?"""

    def spelled(host: SSHHost) -> tuple[str, int, str | None]:
        name = str(ipaddress.IPv6Address(host.name)) if ":" in host.name else host.name.lower()
        return name, host.port or _SSH_PORT, host.user

    return (one.name, one.port) == (other.name, other.port) or spelled(one) == spelled(other)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError
    return value


def _host_name(value: object) -> str:
    host = _parts(value)
    if host.user or host.port:
        raise Refused("which has more than a name")
    return host.name


def _file(value: object) -> str:
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ValueError
    return os.path.abspath(os.path.expanduser(_text(os.fspath(value))))


def _files(value: object) -> tuple[str, ...]:
    listed = [value] if isinstance(value, (str, os.PathLike)) else value
    if not isinstance(listed, Sequence) or not listed:
        raise ValueError
    return tuple(_file(one) for one in listed)


def _class(value: object) -> str:
    if isinstance(value, type):
        raise Refused("which is a class: its name is wanted, for the hosts import it")
    if not isinstance(value, str) or not _CLASS.fullmatch(value):
        raise ValueError
    return value


_FIELDS: Mapping[str, tuple[Callable[[object], Any], str, str]] = {
    "hosts": (_hosts, 'a list of host names or addresses, each maybe "user@host:port"', '["node1", "node2"]'),
    "user": (checks.optional(_text), "the name of a user of the hosts", '"ann"'),
    "port": (checks.optional(checks.at_least(1, 65535)), "a port from 1 to 65535", "22"),
    "keys": (checks.optional(_files), "the path of a private key, or a list of them", '"~/.ssh/id_ed25519"'),
    "known_hosts": (checks.optional(_file), "the path of a known_hosts file", '"~/.ssh/known_hosts"'),
    "python": (checks.optional(_text), "the path of Python on the hosts", '"/opt/venv/bin/python"'),
    "worker_class": (checks.optional(_class), "the full name of a class", '"dask_cuda.CUDAWorker"'),
    "security": (
        checks.optional(tls_security),
        "a distributed.Security that requires encryption and has the certificates of client, scheduler and worker",
        "distributed.Security(require_encryption=True, tls_ca_file=...)",
    ),
    "scheduler_host": (checks.optional(_host_name), "a host name or address of the first host", '"10.0.0.5"'),
    "scheduler_port": (checks.optional(checks.at_least(1, 65535)), "a port from 1 to 65535", "8786"),
    "dashboard": (checks.boolean, "True or False", "True"),
    "connect_timeout": (checks.seconds, "seconds, more than 0", "10"),
    "start_timeout": (checks.seconds, "seconds, more than 0", "60"),
}


@dataclass(frozen=True)
class SSHTarget:
    """Hosts on which a step run starts a scheduler and workers over SSH, and ends them with it.

    Needs the extra ``ssh``. On each host Python, dask, distributed and prs_dask must be installed, of the versions
    that are used here. The scheduler runs on the first host, workers on the first ``node_count`` ones, with
    ``process_count_per_node`` worker processes each.

    Parameters
    ----------
    hosts
        Host names, addresses or names of ``~/.ssh/config``; each may be ``"user@host:port"``.
    user, port
        For hosts that have none of their own. Default: those of ``~/.ssh/config``, else this user and 22.
    keys
        Paths of private keys, without passphrase. Default: the SSH agent's, and the usual ones in ``~/.ssh``.
    known_hosts
        File with the hosts' keys; a host that is not in it is refused. Default: ``~/.ssh/known_hosts``.
    python
        Python on the hosts; ``~/`` is the home folder there. Default: the path of the one that runs here.
    worker_class
        What is started in place of a Dask worker with a nanny, by its full name: ``"dask_cuda.CUDAWorker"`` on hosts
        with GPUs.
    security
        A ``distributed.Security`` with certificates of your own, for all three roles; it must require encryption.
        Default: TLS with a certificate made for this step run alone, which is never written to a host's disk but while
        OpenSSL reads it.
    scheduler_host
        Name or address of the first host under which workers and this machine reach it, where that is another one than
        SSH reaches it at: one of another network card, or of what stands before it and translates addresses.
    scheduler_port
        Port of the first host on which the scheduler listens. Default: any that is free.
    dashboard
        Whether the first host serves Dask's dashboard, to itself only: at ``127.0.0.1:8787``, or where that port is
        taken at another one, which ``driver_log.txt`` tells.
    connect_timeout, start_timeout
        Seconds for SSH to log in, and for the scheduler and a worker to be up.

    Raises
    ------
    SettingsError
        With every value that cannot be used.

    Examples
    --------
    >>> SSHTarget(["node1", "node2"], user="ann")
    SSHTarget(hosts=('node1', 'node2'), user='ann')
    """

    hosts: Sequence[str] | str
    _: KW_ONLY
    user: str | None = None
    port: int | None = None
    keys: Sequence[str | os.PathLike[str]] | str | os.PathLike[str] | None = None
    known_hosts: str | os.PathLike[str] | None = None
    python: str | None = None
    worker_class: str | None = None
    security: Any = field(default=None, repr=False)
    scheduler_host: str | None = None
    scheduler_port: int | None = None
    dashboard: bool = False
    connect_timeout: float = 10
    start_timeout: float = 60

    def __post_init__(self) -> None:
        faults = []
        for name, (parse, allowed, example) in _FIELDS.items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, parse(value))
            except ValueError as error:
                why = f", {error}" if isinstance(error, Refused) else ""
                found = f"a {type(value).__name__}" if name == "security" else _shown(value)
                faults.append(Fault(f"SSHTarget: {name}", found + why, allowed, f"{name}={example}"))
        refused = {fault.name for fault in faults}
        if not refused & {"SSHTarget: hosts", "SSHTarget: port"} and (twice := self._twice()):
            allowed, example = _FIELDS["hosts"][1:]
            found = f"{_shown(list(self.hosts))}, which names a host twice: {twice}"
            faults.append(Fault("SSHTarget: hosts", found, allowed, f"hosts={example}"))
        if faults:
            raise SettingsError(faults)

    def _twice(self) -> str:
        hosts = self.ssh_hosts
        for number, one in enumerate(hosts):
            for other in hosts[:number]:
                if _same(one, other):
                    return one.text if one.text == other.text else f"{other.text} and {one.text}"
        return ""

    def __repr__(self) -> str:
        given = [
            f"{one.name}={getattr(self, one.name)!r}"
            for one in dataclasses.fields(self)
            if one.repr and getattr(self, one.name) != one.default
        ]
        return f"SSHTarget({', '.join(given)})"

    @property
    def ssh_hosts(self) -> tuple[SSHHost, ...]:
        """The hosts in their parts, with ``user`` and ``port`` where they have none of their own."""
        parts = [_parts(host) for host in self.hosts]
        return tuple(one._replace(user=one.user or self.user, port=one.port or self.port) for one in parts)

    @property
    def key_files(self) -> list[str] | None:
        """Absolute paths of the private keys."""
        return None if self.keys is None else [str(key) for key in self.keys]  # type: ignore[union-attr]

    def as_mapping(self) -> dict[str, Any] | None:
        """As a YAML file holds it; None where it cannot, because of a ``security`` of its own."""
        if self.security is not None:
            return None
        values = {one.name: (getattr(self, one.name), one.default) for one in dataclasses.fields(self)}
        plain = {name: value for name, (value, default) in values.items() if value != default}
        return {"ssh": {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}}

    @classmethod
    def from_mapping(cls, content: object) -> SSHTarget:
        """From what stands in a YAML file below ``ssh:``.

        Raises
        ------
        SettingsError
            Where it is none, or has names that do not exist.
        """
        if not isinstance(content, Mapping) or "hosts" not in content:
            found = f"{_shown(content)}, without hosts" if isinstance(content, Mapping) else _shown(content)
            raise SettingsError(
                [Fault("compute_target: ssh", found, "a mapping with hosts", "{hosts: [node1, node2]}")]
            )
        known = [name for name in _FIELDS if name != "security"]
        if unknown := [str(name) for name in content if name not in known]:
            raise SettingsError(
                [
                    Fault(f"compute_target: ssh: {name}", "a name that does not exist", ", ".join(known))
                    for name in unknown
                ]
            )
        return cls(**content)

    @classmethod
    def from_url(cls, url: str) -> SSHTarget:
        """From ``ssh://[user@]host[:port][,host...][/path/of/python]``; ``/~/`` is the home folder of the user there.

        Raises
        ------
        SettingsError
            Where it has no such form.
        """
        hosts, slash, python = url[len(_SCHEME) :].partition("/")
        first, *others = [unquote(host.strip()) for host in hosts.split(",")]
        user, at, name = first.rpartition("@")
        path = slash + unquote(python)
        plain_user = bool(at) and ":" not in user  # with a password the host itself is refused
        return cls(
            [name if plain_user else first, *others],
            user=user if plain_user else None,
            python=(path[1:] if path.startswith("/~/") else path) if python else None,
        )


def _shown(value: object) -> str:
    from prs_dask.redaction import redact_text

    text = redact_text(repr(value))
    text = re.sub(r":[^@\s'\"/:]+@", ":***@", text)
    return text if len(text) <= 200 else f"{text[:197]}..."
