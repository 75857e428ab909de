"""Frames and what they carry arrive as they were sent."""

from __future__ import annotations

import json
import pickle
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.attempts.records import AttemptError
from prs_dask.worker_process.frames import (
    OUTCOME_SIZE,
    OutcomeHeader,
    ProcessSetup,
    pack_error,
    pack_outcome,
    read_frame,
    unpack_error,
    unpack_outcome,
    write_frame,
)

any_text = st.text(st.characters())  # lone surrogates included


@given(st.builds(AttemptError, any_text, any_text, any_text, any_text, any_text))
def test_errors_arrive_with_any_text(error):
    assert unpack_error(pack_error(error)) == error
    assert json.loads(pack_error(error)) == list(error)


@given(st.binary(max_size=200))
def test_an_outcome_header_stands_before_what_follows_it(rest):
    header = OutcomeHeader(1, 10, 9, 2**40, 1.5, 0.5, 0.25, 0.125, 0.0625)
    data = pack_outcome(*header) + rest
    assert unpack_outcome(data) == header
    assert data[OUTCOME_SIZE:] == rest


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2**64 - 1), st.binary(max_size=1000)), max_size=10))
def test_frames_arrive_in_order_and_whole(frames):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for frame in frames:
            write_frame(ours, *frame)
        assert [read_frame(theirs) for _ in frames] == frames


def test_a_stream_that_ends_within_a_frame_is_an_end():
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(b"\x01\x00")
        with pytest.raises(EOFError):
            read_frame(theirs)


def test_the_setup_travels_pickled():
    setup = ProcessSetup("a.py", None, "/src", ("--x",), (), None, "/w", "/l", "/o", "process000", 0, "INFO")
    assert pickle.loads(pickle.dumps(setup)) == setup
