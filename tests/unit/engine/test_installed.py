"""Requirements against packages that lie in folders of the test."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from prs_dask.engine.installed import misfits


@pytest.fixture
def site(tmp_path: Path) -> list[str]:
    for name, version in {"Some.Thing": "2.1rc1", "other": "1.0", "strange": "one"}.items():
        folder = tmp_path / f"{name.replace('.', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (tmp_path / "damaged-1.0.dist-info").mkdir()
    (tmp_path / "damaged-1.0.dist-info" / "METADATA").write_text("Name: damaged\n")
    return [str(tmp_path)]


@pytest.mark.parametrize(
    "holds",
    [
        "some-thing>=2",
        "other",
        "other==1.*",
        "python>=3.11",
        'absent; sys_platform == "win32"',
        'other; python_version > "3"',
    ],
)
def test_what_holds_is_not_told(site: list[str], holds: str) -> None:
    assert misfits([holds], site) == []


@pytest.mark.parametrize(
    ("requirement", "row"),
    [
        ("absent", ("absent", "not installed", "any version")),
        ("other<1,>=0.5", ("other", "1.0", "<1,>=0.5")),
        ("python<3", ("python", platform.python_version(), "<3")),
        ("strange>=1", ("strange", "one", ">=1")),
        ("damaged>=1", ("damaged", "unknown version", ">=1")),
    ],
)
def test_what_does_not_hold_is_told(site: list[str], requirement: str, row: tuple[str, str, str]) -> None:
    assert misfits([requirement, "other"], site) == [row]


def test_the_first_folder_counts(site: list[str], tmp_path: Path) -> None:
    nearer = tmp_path / "nearer"
    (nearer / "other-3.0.dist-info").mkdir(parents=True)
    (nearer / "other-3.0.dist-info" / "METADATA").write_text("Name: other\nVersion: 3.0\n")
    assert misfits(["other>=3"], [str(nearer), *site]) == []
    assert misfits(["other>=3"], [*site, str(nearer)]) == [("other", "1.0", ">=3")]
