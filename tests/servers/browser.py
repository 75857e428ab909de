"""A browser that tests look at pages with: headless Chromium, driven by Playwright from npm.

A test that cannot get it fails; none is skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from installing import apt_program, is_asked_for, npm_package

PLAYWRIGHT = "1.64.1"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 240.0


@dataclass(frozen=True)
class Look:
    """What a page was in one width and one scheme.

    Parameters
    ----------
    width, scheme
        Pixels; ``"light"`` or ``"dark"``.
    errors
        Of scripts, of the console, and of what the page's policy forbids.
    requests
        What it asked for, beside itself.
    overflow
        Pixels that the page is wider than the window.
    drawings
        How many figures have been drawn, and how many there should be.
    ground, text
        Colours of the page.
    words
        All its text.
    marks
        Elements that no report has, by name, and what a script within it would have done.
    screenshot
        The whole page.
    """

    width: int
    scheme: str
    errors: list[str]
    requests: list[str]
    overflow: int
    drawings: tuple[int, int]
    ground: str
    text: str
    words: str
    marks: list[str]
    screenshot: Path


def _installed() -> tuple[str, Path]:
    return apt_program(PROGRAMS, "chromium"), npm_package("playwright-core", PLAYWRIGHT)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch it before the first test, not within its time limit."""
    if is_asked_for("browser", session):
        with contextlib.suppress(pytest.fail.Exception):  # the tests will say so
            _installed()


@pytest.fixture
def browser(tmp_path: Path) -> Callable[..., list[Look]]:
    """``browser(page, looks)``: open a file in each (width, scheme); screenshots lie in the test's folder."""
    program, playwright = _installed()

    def look(page: Path, looks: list[tuple[int, str]]) -> list[Look]:
        told = {
            "program": program,
            "playwright": str(playwright),
            "page": page.as_uri(),
            "looks": [
                {"width": width, "scheme": scheme, "screenshot": str(tmp_path / f"{page.stem}-{width}-{scheme}.png")}
                for width, scheme in looks
            ],
        }
        # Chromium makes a socket in its folder, whose path must be short.
        with tempfile.TemporaryDirectory(prefix="look-", dir="/tmp", ignore_cleanup_errors=True) as folder:
            done = subprocess.run(
                ["node", str(Path(__file__).with_name("look.cjs")), json.dumps(told)],
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                check=False,
                timeout=PATIENCE,
                env={**os.environ, "HOME": folder, "TMPDIR": folder},
            )
        if done.returncode:
            pytest.fail(f"the browser ended with {done.returncode}:\n{done.stdout}{done.stderr}", pytrace=False)
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return [
            Look(**{**one, "drawings": tuple(one["drawings"]), "screenshot": Path(one["screenshot"])}) for one in found
        ]

    return look
