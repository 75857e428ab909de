"""JSON Lines: types of the head hold where they fit; what is no row is told with its line."""

from __future__ import annotations

import logging

import pytest

from prs_dask.datasets import ReadError, TabularDataset
from prs_dask.datasets.reading import read


def written(folder, *lines: str | bytes):
    path = folder / "t.jsonl"
    path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
    return TabularDataset.from_json_lines_files(path)


def blocks(dataset):
    """A frame for each line."""
    spec = dataset.reader()
    return [read(batch, spec) for batch in dataset.mini_batches(1)]


HEAD = '{"n": 1, "x": 1.5, "s": "t", "b": true, "o": {"k": 1}, "u": 18446744073709551615}'


@pytest.mark.parametrize(
    "line",
    [
        HEAD,
        '{"n": 2, "x": 2, "s": "", "b": false, "o": [1], "u": 1}',
        '{"n": 2, "x": 2, "s": "", "b": false, "o": 5, "u": 1}',
    ],
)
def test_where_values_fit_the_types_are_those_of_the_head(tmp_path, caplog, line):
    dataset = written(tmp_path, *[HEAD] * 12_000, line)
    spec = dataset.reader()
    frame = read(dataset.plan(1)[-1], spec)
    assert [(name, str(dtype)) for name, dtype in frame.dtypes.items()] == list(spec.column_types)
    assert not caplog.records


@pytest.mark.parametrize("line", ["{}", '{"n": null, "x": null, "s": null, "b": null, "o": null, "u": null}'])
def test_missing_values_are_told_by_nobody(tmp_path, caplog, line):
    dataset = written(tmp_path, *[HEAD] * 12_000, line)
    frame = read(dataset.plan(1)[-1], dataset.reader())
    assert frame.isna().all().all()
    assert list(frame) == ["n", "x", "s", "b", "o", "u"]
    assert str(frame["s"].dtype) == "str"
    assert not caplog.records


def test_a_column_that_does_not_fit_has_its_own_type_and_is_told_once(tmp_path, caplog):
    dataset = written(tmp_path, *['{"json_misfit": 1}'] * 70_000, '{"json_misfit": 1.5}', '{"json_misfit": 2.5}')
    spec, batches = dataset.reader(), dataset.plan(1)
    with caplog.at_level(logging.WARNING):
        assert [read(batch, spec)["json_misfit"].tolist() for batch in batches[-2:]] == [[1.5], [2.5]]
    told = [record.getMessage() for record in caplog.records if "json_misfit" in record.getMessage()]
    assert len(told) == 1
    assert "int64 in the dataset's head" in told[0]


def test_a_whole_number_that_a_float_cannot_hold_stays_whole(tmp_path):
    frame = blocks(written(tmp_path, '{"a": 0.5}\n{"a": 9007199254740993}'))[-1]
    assert frame["a"].tolist() == [9007199254740993]


def test_objects_with_nothing_in_them_are_rows(tmp_path):
    dataset = written(tmp_path, "{}", "{}", "")
    assert [len(frame) for frame in (read(batch, dataset.reader()) for batch in dataset.plan())] == [2]


def test_byte_order_marks_also_of_files_that_were_put_together_are_no_text(tmp_path):
    dataset = written(tmp_path, b'\xef\xbb\xbf{"a": 1}', b'\xef\xbb\xbf{"a": 2}')
    assert [frame["a"].tolist() for frame in blocks(dataset)] == [[1], [2]]


def test_the_last_of_doubled_keys_counts_and_large_numbers_keep_their_digits(tmp_path):
    first, second = blocks(written(tmp_path, '{"a": 1, "a": 2}', '{"a": 123456789012345678901234567890}'))
    assert first["a"].tolist() == [2]
    assert second["a"].tolist() == [123456789012345678901234567890]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'{"a": "\xff"}', "line 3: not UTF-8.*encoding="),
        ('{"a": 1}'.encode("utf-16"), "line 3: not UTF-8.*encoding="),
        (b'{"a": "\\ud800"}', "from line 3 on: .*not Unicode"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "line 3: nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", "line 3: not JSON: .*4300 digits"),
        (b"\xc2\xa0", "line 3: not JSON"),
        (b"{'a': 1}", "line 3: not JSON"),
        (b'{"a": 1},', "line 3: not JSON"),
    ],
)
def test_a_bad_line_fails_its_own_mini_batch(tmp_path, line, told):
    dataset = written(tmp_path, '{"a": "x"}', "", line.replace(b"\n", b""), '{"a": "y"}')
    spec = dataset.reader()
    first, bad, last = dataset.plan(1)
    with pytest.raises(ReadError, match=rf"t.jsonl, {told}"):
        read(bad, spec)
    assert [read(batch, spec)["a"].tolist() for batch in (first, last)] == [["x"], ["y"]]


def test_a_line_larger_than_the_block_is_one_row(tmp_path):
    dataset = written(tmp_path, '{"a": 1}', '{"a": "' + "x" * 5_000_000 + '"}', '{"a": 3}')
    frames = [read(batch, dataset.reader()) for batch in dataset.plan(1000)]
    assert [len(frame) for frame in frames] == [2, 1]
    assert len(frames[0]["a"][1]) == 5_000_000
