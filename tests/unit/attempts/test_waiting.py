"""What waits is handed out in order, and bounded in bytes where descriptors are large."""

from __future__ import annotations

from typing import NamedTuple

from prs_dask.attempts.waiting import CHUNK_DESCRIPTOR_BYTES, WAITING_BYTES, WaitingLine


class One(NamedTuple):
    number: int
    descriptor: bytes = b"x"


def line(*sizes: int) -> WaitingLine[One]:
    waiting: WaitingLine[One] = WaitingLine()
    for number, size in enumerate(sizes):
        waiting.append(One(number, bytes(size)))
    return waiting


def numbers(taken: list[One]) -> list[int]:
    return [one.number for one in taken]


def test_small_ones_are_taken_by_their_number_alone() -> None:
    waiting = line(*[10] * 10)
    assert numbers(waiting.chunk(4)) == [0, 1, 2, 3]
    assert waiting.chunks(4) == 2
    assert len(waiting) == 6
    assert waiting.bytes == 60


def test_what_was_given_back_comes_first() -> None:
    waiting = line(1, 1)
    [first] = waiting.chunk(1)
    waiting.appendleft(first)
    assert [one.number for one in waiting] == [0, 1]
    assert waiting.bytes == 2


def test_a_chunk_of_large_ones_is_bounded_in_bytes_but_for_one() -> None:
    third = CHUNK_DESCRIPTOR_BYTES // 3
    waiting = line(third, third, third, third, CHUNK_DESCRIPTOR_BYTES + 1, 1)
    assert waiting.chunks(256) == 3
    assert numbers(waiting.chunk(256)) == [0, 1, 2]
    assert numbers(waiting.chunk(256)) == [3]
    assert numbers(waiting.chunk(256)) == [4]
    assert numbers(waiting.chunk(256)) == [5]
    assert waiting.chunk(256) == []
    assert waiting.bytes == 0


def test_where_too_many_bytes_wait_more_are_wanted_for_idle_lanes_only() -> None:
    waiting = line(WAITING_BYTES - 1)
    assert waiting.room(10, 4) == 9
    waiting.append(One(1, b"x"))
    assert waiting.room(10, 4) == 2
    assert waiting.room(10, 1) == 0


def test_nothing_is_left_when_it_was_cleared() -> None:
    waiting = line(5)
    waiting.clear()
    assert (len(waiting), waiting.bytes, waiting.chunk(1)) == (0, 0, [])


def test_what_does_not_suit_is_passed_over_and_keeps_its_place() -> None:
    waiting = line(1, 2, 3, 4, 5, 6)
    assert numbers(waiting.chunk(2, lambda one: one.number % 2 == 1)) == [1, 3]
    assert [one.number for one in waiting] == [0, 2, 4, 5]
    assert waiting.bytes == 1 + 3 + 5 + 6
    assert waiting.chunk(2, lambda one: False) == []
    assert [one.number for one in waiting] == [0, 2, 4, 5]


def test_what_is_too_large_for_a_chunk_keeps_its_place_too() -> None:
    waiting = line(1, CHUNK_DESCRIPTOR_BYTES, 1)
    assert numbers(waiting.chunk(3)) == [0]
    assert [one.number for one in waiting] == [1, 2]
