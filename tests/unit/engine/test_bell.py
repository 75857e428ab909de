from __future__ import annotations

import select
from pathlib import Path

from prs_dask.engine.bell import Bell


def is_heard(bell: Bell) -> bool:
    return bool(select.select([bell.descriptor], [], [], 0)[0])


def test_it_is_heard_until_it_is_hushed() -> None:
    bell = Bell()
    assert not is_heard(bell)
    bell.ring()
    bell.ring()
    assert is_heard(bell)
    bell.hush()
    assert not is_heard(bell)
    bell.hush()
    bell.close()


def test_ringing_a_closed_one_writes_to_no_other_file(tmp_path: Path) -> None:
    bell = Bell()
    number = bell.descriptor
    bell.close()
    bell.close()
    with (tmp_path / "other").open("wb") as other:
        assert other.fileno() == number
        bell.ring()
    assert (tmp_path / "other").read_bytes() == b""
