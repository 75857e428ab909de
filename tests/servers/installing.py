"""What tests need beside their environment: from npm's registry and from PyPI's to ``~/.cache/prs-dask-tests``, from
apt where they may.

Once in a machine's life; a test that cannot get it fails, none is skipped.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prs-dask-tests"


def is_asked_for(fixture: str, session: pytest.Session) -> bool:
    """Does a collected test ask for this fixture, by its parameters or arguments? False where nothing is run here."""
    if session.config.option.collectonly or hasattr(session.config, "workerinput"):
        return False
    for item in session.items:
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        texts = {value for value in values if isinstance(value, str)}  # values of other kinds may refuse comparison
        if fixture in texts.union(getattr(item, "fixturenames", ())):
            return True
    return False


def npm_package(name: str, version: str) -> Path:
    """The folder of a package of npm's registry."""
    folder = CACHE / f"{name}-{version}"
    with _one_at_a_time():
        if shutil.which("node") is None or shutil.which("npm") is None:
            _apt_get("nodejs", "npm")
        if shutil.which("node") is None:
            pytest.fail(f"{name} needs Node.js: apt-get install nodejs npm", pytrace=False)
        if not (folder / "whole").exists():
            if shutil.which("npm") is None:
                pytest.fail(f"{name} comes from npm: apt-get install npm", pytrace=False)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "package.json").write_text("{}")
            _run("npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), f"{name}@{version}")
            (folder / "whole").touch()
    return folder / "node_modules" / name


def pip_packages(*pinned: str) -> Path:
    """A folder for ``PYTHONPATH`` with these packages alone: such as would change the versions of others here."""
    folder = CACHE / f"{pinned[0].replace('==', '-')}-{sys.implementation.cache_tag}"
    whole = folder / "whole"
    with _one_at_a_time():
        if not whole.exists() or whole.read_text() != " ".join(pinned):
            shutil.rmtree(folder, ignore_errors=True)
            _run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *pinned)
            whole.write_text(" ".join(pinned))
    return folder


def apt_program(programs: tuple[str, ...], package: str) -> str:
    """The first of these programs that is there; else that of a package of apt's."""
    with _one_at_a_time():
        if not any(map(shutil.which, programs)):
            _apt_get(package)
    found = next(filter(None, map(shutil.which, programs)), None)
    if found is None:
        pytest.fail(f"found no {' or '.join(programs)}: apt-get install {package}", pytrace=False)
    return found


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _apt_get(*packages: str) -> None:
    """Where it is there, and may be used."""
    if shutil.which("apt-get") and not os.geteuid():
        _run("apt-get", "update", "-qq")
        _run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=600)
    if done.returncode:
        pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}", pytrace=False)
