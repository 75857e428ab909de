"""What an ignore file leaves out is what git leaves out; git itself is asked."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prs_dask.pipeline.ignore_file import IgnorePatterns

QUIET = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "LC_ALL": "C.UTF-8"}


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("git") / "repository"
    subprocess.run(["git", "init", "--quiet", "--bare", folder], check=True, env=QUIET)
    return folder


def kept_by_git(repository: Path, root: Path, content: bytes) -> set[str]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        command = ["git", f"--git-dir={repository}", f"--work-tree={root}", "ls-files", "--others", "-z"]
        done = subprocess.run(
            [*command, f"--exclude-from={file.name}"], cwd=root, check=True, capture_output=True, env=QUIET
        )
    return set(done.stdout.decode().split("\0")) - {""}


def kept_by_us(root: Path, content: bytes) -> set[str]:
    patterns = IgnorePatterns(content)

    def walk(folder: str) -> Iterator[str]:
        for entry in os.scandir(root / folder):
            name = f"{folder}{entry.name}"
            is_folder = entry.is_dir(follow_symlinks=False)
            if not patterns.leaves_out(name, is_folder=is_folder):
                yield from walk(f"{name}/") if is_folder else [name]

    return set(walk(""))


def make(root: Path, *names: str) -> None:
    """Files, and links where ``->`` tells so."""
    for name in names:
        path, _, target = name.partition(" -> ")
        try:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to(target) if target else (root / path).touch()
        except OSError:  # where another of these names is in the way
            continue


CASES = {
    "a folder stays out though an entry below it is named again": (
        "secrets/\n!/src/\n", ["src/secrets/key", "src/a.py"], ["src/a.py"],
    ),
    "what lies in a folder does not say of the folder itself": (
        "data/**\n!data/keep.txt\n", ["data/keep.txt", "data/big", "data/more/keep.txt"], ["data/keep.txt"],
    ),
    "all but some kinds of files": ("*\n!*/\n!*.py\n", ["src/a.py", "src/a.txt", "b.py"], ["src/a.py", "b.py"]),
    "a mark of UTF-8 is no part of the first line": ("\ufeffsecret\nother\n", ["secret", "other", "a"], ["a"]),
    "nothing comes back from a folder that is left out": ("data/\n!data/keep.txt\n", ["data/keep.txt"], []),
    "spaces behind a pattern, and one that is meant": (
        "a  \nb\\ \nc\\ d\ne\\  \n", ["a", "b ", "b", "c d", "e ", "e"], ["b", "e"],
    ),
    "a tab belongs to the name": ("a\t\n", ["a", "a\t"], ["a"]),
    "a comment, and a name that begins like one": ("#a\n\\#b\n", ["#a", "#b"], ["#a"]),
    "a name that begins with an exclamation mark": ("!a\n\\!b\n", ["!a", "!b"], ["!a"]),
    "lines of Windows": ("a\r\n\r\nb/\r\n#c\r\n", ["a", "b/x", "c", "\r"], ["c", "\r"]),
    "the last line has no end": ("a\nb", ["a", "b"], []),
    "only an end of line ends a line": ("a\u2028b\nc\fd\n", ["a", "b", "c", "d", "a\u2028b", "c\fd"], list("abcd")),
    "sets of letters": (
        "[ab]1\n[!ab]2\n[^ab]3\n[a-c]4\n[]x]5\n[a-]6\n[\\]]7\n",
        ["a1", "c1", "a2", "c2", "b3", "d3", "b4", "d4", "]5", "-6", "b6", "]7", "\\7"],
        ["c1", "a2", "b3", "d4", "b6", "\\7"],
    ),
    "sets by name": (
        "[[:digit:]]a\n[![:alpha:]_]b\n[[:upper:]-x]c\n[[:nonsense:]]d\n[[:d",
        ["1a", "xa", "_b", "1b", "Ac", "-c", "xc", "yc", "nd", "d"],
        ["xa", "_b", "yc", "nd", "d"],
    ),
    "what is never closed matches nothing": ("[a\nb\\\n", ["[a", "a", "b", "b\\"], ["[a", "a", "b", "b\\"]),
    "large and small letters differ": ("*.LOG\n", ["a.log", "b.LOG"], ["a.log"]),
    "a letter is a byte": ("?1\n??2\n[é]3\n", ["é1", "é2", "a1", "é3"], ["é1", "é3"]),
    "a link to a folder is none": ("a/\nb\n", ["c/x", "a -> c", "b -> c"], ["a", "c/x"]),
    "a slash ties a pattern to the top": (
        "/a\nb/c\n", ["a", "d/a", "b/c", "d/b/c"], ["d/a", "d/b/c"],
    ),
    "two stars between slashes cross folders, others do not": (
        "a/**/z\n**/y\nb/*/x\nc**d\n/**e\nf/**\\/g\n",
        ["a/z", "a/1/z", "a/1/2/z", "1/2/y", "b/1/x", "b/1/2/x", "c/d", "c1d", "1e", "1/e", "f/1/2/g", "f/1/h"],
        ["b/1/2/x", "c/d", "1/e", "f/1/h"],
    ),
    "no set holds a slash": ("/a[!b]c\n/d[/]e\n", ["a/c", "axc", "d/e"], ["a/c", "d/e"]),
    "a slash alone, or nothing": ("/\n//\n!\n\n \n", ["a", " "], ["a", " "]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "names", "kept"), CASES.values(), ids=CASES)
def test_it_is_as_git_says(repository: Path, tmp_path: Path, text: str, names: list[str], kept: list[str]) -> None:
    make(tmp_path, *names)
    assert kept_by_us(tmp_path, text.encode()) == set(kept)
    assert kept_by_git(repository, tmp_path, text.encode()) == set(kept)


_NAMES = st.sampled_from(
    ["a", "b", "ab", "A", "é", "x.py", "a.log", "c d", "[x]", "-", "]", "!a", "#a", "\\", "a ", "*", "?a", ":"]
)
_PATHS = st.lists(_NAMES, min_size=1, max_size=4).map("/".join)
_LINKS = st.tuples(_PATHS, st.sampled_from(["a", "b", "."])).map(" -> ".join)
_PIECES = st.sampled_from(
    [
        *"abAé.\\-!#:][*?", "\\a", "\\*", "\\!", "\\#", "[ab]", "[!a]", "[^a]", "[a-b]", "[]a]", "[!]]", "[\\]]",
        "[a-]", "[--b]", "[a-", "[z-a]", "[é]", "[[-b]", "[]-a]", "[a-c-e]", "[\\a-b]", "[[:alpha:]]", "[![:lower:]]",
        "[[:punct:]]", "[[:upper:]a]", "[[:x:]]", "[[:]", "[[:a]", "[[:a",
    ]
)  # fmt: skip
_PARTS = st.one_of(
    st.sampled_from(["a", "b", "*", "**", "?", "*.py"]),
    # Between other letters two stars are one: git before 2.41 leaves to chance whether it thinks so
    st.lists(_PIECES, min_size=1, max_size=3).map(lambda pieces: re.sub(r"\*+", "*", "".join(pieces))),
)
_LINES = st.tuples(
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/"]),
    st.lists(_PARTS, min_size=1, max_size=3).map("/".join),
    st.sampled_from(["", "", "/"]),
    st.sampled_from(["", "", "", " ", "  ", "\\ ", "\t", "\r"]),
).map("".join)


@settings(max_examples=200)
@given(st.lists(st.one_of(_PATHS, _LINKS), max_size=25), st.lists(_LINES, max_size=6))
def test_any_patterns_leave_out_what_git_leaves_out(repository: Path, names: list[str], lines: list[str]) -> None:
    content = "\n".join(lines).encode()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), *names)
        assert kept_by_us(Path(folder), content) == kept_by_git(repository, Path(folder), content)
