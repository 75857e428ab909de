"""Rows of all mini-batches together are the rows of the file: in order, once, unbroken."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import pickle

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prs_dask.datasets import ReadError, TabularDataset
from prs_dask.datasets.delimited import _NULLS
from prs_dask.datasets.reading import read
from prs_dask.errors import InputError, SettingsError

KB, MB = 1000, 1000 * 1000
FIELDS = st.text(alphabet=st.sampled_from('ab,"\r\n é1\t'), max_size=6)


def frames(dataset, size):
    spec = pickle.loads(pickle.dumps(dataset.reader()))
    return [read(batch, spec) for batch in dataset.mini_batches(size)]


def rows(dataset, size):
    return [tuple(row) for frame in frames(dataset, size) for row in frame.itertuples(index=False)]


def texts(dataset, size):
    return [tuple("" if pd.isna(value) else value for value in row) for row in rows(dataset, size)]


def csv_file(folder, data: bytes | str, name="table.csv"):
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@st.composite
def tables(draw):
    """(text, its rows): two columns, quoted or not, any line break, blank lines, with or without an end."""
    text, expected = "", []
    for _ in range(draw(st.integers(0, 8))):
        fields = draw(st.tuples(FIELDS, FIELDS))
        written = []
        for field in fields:
            must = field.startswith('"') or any(character in field for character in ",\r\n")
            quoted = must or draw(st.booleans())
            written.append('"' + field.replace('"', '""') + '"' if quoted else field)
        text += ",".join(written) + draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\r\n\r\n"]))
        expected.append(fields)
    return (text if draw(st.booleans()) else text.rstrip("\r\n")), expected


@settings(max_examples=60)
@given(tables(), st.booleans(), st.integers(1, 90))
def test_no_row_is_lost_doubled_or_broken_whatever_the_block_size(tmp_path_factory, table, bom, size):
    text, _ = table
    expected = [tuple(row) for row in csv.reader(io.StringIO(text, newline="")) if row]
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + b"x,y\r\n" + text.encode())
    dataset = TabularDataset.from_delimited_files(path, dtype=str)
    found = texts(dataset, size)
    assert found == [tuple("" if value in _NULLS else value for value in row) for row in expected]
    assert all(len(frame) for frame in frames(dataset, size))
    as_lines = TabularDataset.from_delimited_files(path, dtype=str, support_multi_line=False)
    if any("\n" in value or "\r" in value for row in expected for value in row):
        with pytest.raises(ReadError):
            frames(as_lines, size)
    else:
        assert texts(as_lines, size) == found


@settings(max_examples=60)
@given(st.lists(st.integers(0, 30), max_size=12), st.integers(1, 80), st.booleans())
def test_a_row_belongs_to_the_block_of_its_first_byte(tmp_path_factory, lengths, size, multi_line):
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    path.write_bytes(b"n\n" + b"".join(b"%d" % index + b"0" * length + b"\n" for index, length in enumerate(lengths)))
    expected, start = {}, 2
    for index, length in enumerate(lengths):
        block = 0 if start == 0 else -(-start // size) - 1
        expected.setdefault(block, []).append(str(index) + "0" * length)
        start += len(str(index)) + length + 1
    dataset = TabularDataset.from_delimited_files(path, dtype=str, support_multi_line=multi_line)
    assert [frame["n"].tolist() for frame in frames(dataset, size)] == list(expected.values())


@pytest.mark.parametrize(
    ("size", "expected"), [(15, [2, 1, 2, 1, 2, 1, 1]), (30, [3, 3, 3, 1]), (105, [10]), (1, [1] * 10), (9, [1] * 10)]
)
@pytest.mark.parametrize("multi_line", [True, False, "auto"])
def test_known_partitions_of_ten_rows_are_reproduced(tmp_path, size, expected, multi_line):
    path = csv_file(tmp_path, b"a,bc\n" + b"123,56789\n" * 10)
    dataset = TabularDataset.from_delimited_files(path, support_multi_line=multi_line)
    assert [len(frame) for frame in frames(dataset, size)] == expected


def test_known_partitions_of_files_of_several_sizes_are_reproduced(tmp_path):
    for number, size in enumerate([100 * KB] * 3 + [300 * KB, 2500 * KB, 10 * MB]):
        csv_file(tmp_path, b"a,b\n" + b"1,23456789\n" * (size // 11), f"{number}.csv")
    dataset = TabularDataset.from_delimited_files(tmp_path)
    assert len(dataset.plan(1 << 20)) == 17
    assert len(dataset.plan(20 << 20)) == 6
    assert len(dataset.plan(1 << 20, n=3)) == 3


def test_rows_larger_than_the_block_are_a_mini_batch_each_and_none_is_empty(tmp_path):
    path = csv_file(tmp_path, b"a,b\n" + b"".join(b"%d,%s\n" % (n, b"x" * 1100) for n in range(50)))
    assert [len(frame) for frame in frames(TabularDataset.from_delimited_files(path), 100)] == [1] * 50


def test_three_small_files_are_three_mini_batches(tmp_path):
    for number in range(3):
        csv_file(tmp_path, b"a,b\n" + b"1,23456789\n" * (100 * KB // 11), f"{number}.csv")
    assert len(TabularDataset.from_delimited_files(tmp_path).plan(1 << 20)) == 3


def test_empty_and_header_only_files_give_no_mini_batch(tmp_path):
    csv_file(tmp_path, b"", "empty.csv")
    csv_file(tmp_path, b"\n\r\n\n", "blank.csv")
    csv_file(tmp_path, b"a,b", "header.csv")
    csv_file(tmp_path, b"\xef\xbb\xbf", "bom.csv")
    (tmp_path / "header.csv.gz").write_bytes(gzip.compress(b"a,b\n\n"))
    (tmp_path / "empty.csv.gz").write_bytes(gzip.compress(b""))
    dataset = TabularDataset.from_delimited_files(tmp_path)
    assert dataset.plan() == []
    assert dataset.reader().column_types == ()
    assert len(dataset.take(3)) == 0


def test_each_file_has_the_names_of_its_own_header(tmp_path):
    csv_file(tmp_path, "a,b\n1,2\n", "1.csv")
    csv_file(tmp_path, "b,a\n3,4\n", "2.csv")
    first, second = frames(TabularDataset.from_delimited_files(tmp_path), 1 << 20)
    assert first.to_dict("list") == {"a": [1], "b": [2]}
    assert second.to_dict("list") == {"b": [3], "a": [4]}


def test_without_headers_every_line_is_a_row_and_columns_are_numbered(tmp_path):
    csv_file(tmp_path, "\xef\xbb\xbf1,2\n3,4\n".encode("latin-1"), "1.csv")
    csv_file(tmp_path, "5,6\n", "2.csv")
    dataset = TabularDataset.from_delimited_files(tmp_path, header="no_headers")
    assert rows(dataset, 1) == [(1, 2), (3, 4), (5, 6)]
    assert list(frames(dataset, 9)[0]) == ["Column1", "Column2"]


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_the_header_of_the_first_file_that_is_not_empty_serves_all(tmp_path, size):
    csv_file(tmp_path, "", "0.csv")
    csv_file(tmp_path, "a,b\n", "1.csv")
    csv_file(tmp_path, "1,2\n3,4\n", "2.csv")
    dataset = TabularDataset.from_delimited_files(tmp_path, header="only_first_file")
    assert rows(dataset, size) == [(1, 2), (3, 4)]
    assert list(frames(dataset, size)[0]) == ["a", "b"]
    assert dataset.reader().column_types == (("a", "int64"), ("b", "int64"))


def test_a_header_with_a_line_break_in_quotes_is_one_header(tmp_path):
    path = csv_file(tmp_path, '"a\nb",c\r\n1,2\r\n')
    assert frames(TabularDataset.from_delimited_files(path), 1)[0].to_dict("list") == {"a\nb": [1], "c": [2]}


def test_a_header_that_is_no_text_fails_the_mini_batches_of_its_file_naming_it(tmp_path):
    csv_file(tmp_path, b"a,\xff\n1,2\n", "1.csv")
    csv_file(tmp_path, b"a,b\n1,2\n", "2.csv")
    dataset = TabularDataset.from_delimited_files(tmp_path)
    spec = dataset.reader()
    first, second = dataset.plan()
    with pytest.raises(ReadError, match="1.csv"):
        read(first, spec)
    assert len(read(second, spec)) == 1
    with pytest.raises(InputError, match="1.csv"):
        TabularDataset.from_delimited_files(tmp_path, header="only_first_file").reader()


def test_a_file_that_grows_while_it_is_cut_is_cut_as_it_was(tmp_path):
    path = csv_file(tmp_path, "a\n1\n2\n")
    batches = TabularDataset.from_delimited_files(path).mini_batches(1)
    first = next(batches)
    with path.open("a") as file:
        file.write("3\n" * 1_000_000)
    assert [(batch.start, batch.stop) for batch in (first, *batches)] == [(2, 4), (4, 6)]


def test_names_that_are_empty_or_stand_twice_are_told_apart(tmp_path):
    path = csv_file(tmp_path, "a,,a\n1,2,3\n")
    assert list(frames(TabularDataset.from_delimited_files(path), 9)[0]) == ["a", "Unnamed: 1", "a.1"]


def test_types_come_from_the_head_and_hold_in_every_block(tmp_path):
    path = csv_file(tmp_path, "n,x,s,t\n" + "1,1.5,01/02,True\n2,2,2020-01-01,False\n" * 50)
    dataset = TabularDataset.from_delimited_files(path)
    for frame in frames(dataset, 1):
        assert [str(kind) for kind in frame.dtypes] == ["int64", "float64", "str", "bool"]
    assert dataset.to_pandas().equals(pd.read_csv(path))


def test_a_block_that_does_not_fit_the_types_of_the_head_has_wider_ones_and_says_so_once(tmp_path, caplog):
    path = csv_file(tmp_path, "misfit,b\n" + "1,1\n" * 300_000 + "2.5,NA\nx,1\ny,1\n")
    dataset = TabularDataset.from_delimited_files(path)
    spec = dataset.reader()
    last = dataset.plan(1 << 18)[-1]
    assert [read(last, spec)["misfit"].tolist()[-3:] for _ in range(2)] == [["2.5", "x", "y"]] * 2
    assert read(last, spec)["b"].tolist()[-2:] == [1.0, 1.0]
    told = [record.getMessage() for record in caplog.records if "misfit" in record.getMessage()]
    assert len(told) == 1
    assert "'misfit' is int64 in the dataset's head" in told[0]
    assert "read as str there; dtype={'misfit': ...} settles it" in told[0]


def test_a_column_that_does_not_fit_in_two_ways_is_told_once(tmp_path, caplog):
    path = csv_file(tmp_path, "two_misfits\n" + "1\n" * 600_000 + "2.5\n" * 3 + "x\n" * 3)
    dataset = TabularDataset.from_delimited_files(path)
    spec = dataset.reader()
    kinds = [str(read(batch, spec)["two_misfits"].dtype) for batch in dataset.plan(4)[-6:]]
    assert {"float64", "str"} <= set(kinds)
    assert [record.args[3] for record in caplog.records if "two_misfits" in record.getMessage()] == ["float64"]


def test_integers_too_long_for_a_type_keep_their_digits(tmp_path):
    path = csv_file(tmp_path, "u,long\n18446744073709551615,99999999999999999999\n1,1\n")
    frame = TabularDataset.from_delimited_files(path).to_pandas()
    assert frame["u"].tolist() == [18446744073709551615, 1]
    assert frame["long"].tolist() == ["99999999999999999999", "1"]


def test_a_dtype_that_is_asked_for_is_given_or_its_mini_batch_fails(tmp_path):
    path = csv_file(tmp_path, "id,n,day,c\n007,1,2020-01-02,u\n008,,2020-01-03,v\n")
    dtype = {"id": "str", "n": "Int64", "day": "datetime64[ns]", "c": "category", "absent": "int8"}
    frame = TabularDataset.from_delimited_files(path, dtype=dtype).to_pandas()
    assert frame["id"].tolist() == ["007", "008"]
    assert [str(kind) for kind in frame.dtypes] == ["str", "Int64", "datetime64[ns]", "category"]
    for wrong in ({"n": "int64"}, {"day": "float64"}, {"c": "Int64"}):
        with pytest.raises(ReadError, match=rf"table.csv.*{next(iter(wrong))!r}"):
            TabularDataset.from_delimited_files(path, dtype=wrong).to_pandas()


@pytest.mark.parametrize("row", ["1", "1,2,3", "1,2,"])
def test_a_row_with_too_few_or_too_many_fields_is_an_error_that_names_file_and_line(tmp_path, row):
    path = csv_file(tmp_path, f'a,b\n1,"x\ny"\n1,2\n{row}\n1,2\n')
    dataset = TabularDataset.from_delimited_files(path)
    first, second, ragged, last = dataset.plan(1)
    with pytest.raises(ReadError, match=r"table.csv, line 5: found \d fields.*allowed: 2"):
        read(ragged, dataset.reader())
    assert [len(read(batch, dataset.reader())) for batch in (first, second, last)] == [1, 1, 1]


def test_bytes_that_are_no_utf8_fail_their_mini_batch_and_no_other(tmp_path):
    path = csv_file(tmp_path, b"a,b\n1,x\n2,\xff\n3,z\n")
    dataset = TabularDataset.from_delimited_files(path)
    spec = dataset.reader()
    good, bad, last = dataset.plan(1)
    assert read(good, spec)["b"].tolist() == ["x"]
    with pytest.raises(ReadError, match="table.csv"):
        read(bad, spec)
    assert read(last, spec)["b"].tolist() == ["z"]


def test_a_quote_that_is_never_closed_stops_the_listing_naming_file_offset_and_option(tmp_path):
    path = csv_file(tmp_path, 'a,b\n1,"x\n2,y\n')
    with pytest.raises(InputError, match=r"support_multi_line: .*byte 6 of '.*table.csv'"):
        TabularDataset.from_delimited_files(path).plan(1)


def test_with_records_as_lines_a_quote_open_at_a_line_end_fails_its_mini_batch(tmp_path):
    path = csv_file(tmp_path, 'a,b\n0,0\n1,"x\ny"\n2,z\n')
    dataset = TabularDataset.from_delimited_files(path, support_multi_line=False)
    with pytest.raises(ReadError, match='table.csv, line 3, byte 10: .*support_multi_line="auto"'):
        read(dataset.plan()[0], dataset.reader())
    path.write_text('a,b\n0,"0,0"\n1,x"y\n')
    assert rows(dataset, 1) == [("0", "0,0"), ("1", 'x"y')] or rows(dataset, 1) == [(0, "0,0"), (1, 'x"y')]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32", "shift_jis"])
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_text_in_other_encodings_is_read(tmp_path, encoding, size):
    word = "ソ|表" if encoding == "shift_jis" else "é\nÿ"
    path = csv_file(tmp_path, f'a;b\r\n1;"{word}"\r\n2;x'.encode(encoding))
    dataset = TabularDataset.from_delimited_files(path, separator=";", encoding=encoding)
    assert rows(dataset, size) == [(1, word), (2, "x")]
    assert len(dataset.plan(size)) == (1 if size > 1 or encoding[:5] in ("utf-1", "utf-3", "shift") else 2)


def zst(data: bytes) -> bytes:
    import pyarrow as pa

    return pa.compress(data, codec="zstd", asbytes=True)


COMPRESSED = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zst}


@pytest.mark.parametrize("ending", COMPRESSED)
def test_a_compressed_file_is_one_mini_batch(tmp_path, ending):
    table = b"\xef\xbb\xbfa,b\n" + b"1,x\n" * 1000
    half = len(table) - 400
    pack = COMPRESSED[ending]
    path = csv_file(tmp_path, pack(table[:half]) + pack(table[half:]), f"table.csv.{ending}")
    dataset = TabularDataset.from_delimited_files(path)
    assert rows(dataset, 1) == [(1, "x")] * 1000
    assert len(dataset.plan(1)) == 1


@pytest.mark.parametrize("ending", COMPRESSED)
def test_damaged_compressed_files_fail_their_own_mini_batch(tmp_path, ending):
    data = COMPRESSED[ending](b"a,b\n" + bytes(str(list(range(30_000))), "ascii").replace(b" ", b"1\n"))
    csv_file(tmp_path, data[: len(data) // 2], f"1.csv.{ending}")
    csv_file(tmp_path, b"this is not compressed", f"2.csv.{ending}")
    csv_file(tmp_path, "a,b\n1,2\n", "3.csv")
    dataset = TabularDataset.from_delimited_files(tmp_path)
    spec = dataset.reader()
    *damaged, good = dataset.plan()
    assert len(damaged) == 2
    for batch in damaged:
        with pytest.raises(ReadError, match=batch.path):
            read(batch, spec)
    assert len(read(good, spec)) == 1


def test_a_file_that_cannot_be_opened_is_handed_out_whole_to_fail_alone(tmp_path):
    csv_file(tmp_path, "a,b\n1,2\n", "1.csv")
    (tmp_path / "2.csv").symlink_to(tmp_path / "nowhere")
    csv_file(tmp_path, "a,b\n3,4\n", "3.csv")
    dataset = TabularDataset.from_delimited_files(tmp_path)
    spec = dataset.reader()
    first, second, third = dataset.plan()
    assert len(read(first, spec)) == len(read(third, spec)) == 1
    with pytest.raises(FileNotFoundError, match="2.csv"):
        read(second, spec)
    (tmp_path / "nowhere").write_text("a,b\n5,6\n")
    assert read(second, spec).to_dict("list") == {"a": [5], "b": [6]}


def test_a_file_that_became_shorter_is_an_error(tmp_path):
    path = csv_file(tmp_path, "a,b\n1,2\n3,4\n")
    dataset = TabularDataset.from_delimited_files(path)
    batch, spec = dataset.plan()[0], dataset.reader()
    path.write_text("a,b\n")
    with pytest.raises(ReadError, match="was changed"):
        read(batch, spec)


def test_the_path_is_a_first_column_where_asked_for(tmp_path):
    path = csv_file(tmp_path, "a,b\n1,2\n")
    dataset = TabularDataset.from_delimited_files(path, include_path=True)
    assert dataset.to_pandas().to_dict("list") == {"Path": [str(path)], "a": [1], "b": [2]}
    csv_file(tmp_path, "Path\n1\n")
    with pytest.raises(ReadError, match="include_path=False"):
        dataset.to_pandas()


def test_a_frame_is_fresh_at_every_read_and_may_be_changed(tmp_path):
    path = csv_file(tmp_path, "a\n1\n2\n")
    dataset = TabularDataset.from_delimited_files(path)
    batch, spec = dataset.plan()[0], dataset.reader()
    frame = read(batch, spec)
    frame["a"] += 1
    frame.loc[0, "a"] = 9
    frame["new"] = 0
    assert read(batch, spec).to_dict("list") == {"a": [1, 2]}


TEXT = st.text(st.sampled_from('ab\n\r"é\u2028 '), max_size=5)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
OBJECTS = st.fixed_dictionaries({"n": st.integers(-(10**6), 10**6)}, optional={"s": TEXT, "x": NUMBER})
LINE_BREAKS = st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\n"])


@settings(max_examples=60)
@given(st.lists(OBJECTS, max_size=8), st.integers(1, 90), LINE_BREAKS, st.booleans())
def test_json_lines_are_read_in_order_once_whatever_the_block_size(tmp_path_factory, objects, size, line_break, ends):
    path = tmp_path_factory.mktemp("json") / "table.jsonl"
    text = line_break.join([json.dumps(one, ensure_ascii=False) for one in objects])
    path.write_bytes((text + line_break * ends).encode())
    dataset = TabularDataset.from_json_lines_files(path)
    found = [row for frame in frames(dataset, size) for row in frame.to_dict("records")]
    assert [{key: value for key, value in row.items() if not pd.isna(value)} for row in found] == objects
    assert all(len(frame) for frame in frames(dataset, size))


def test_json_columns_are_those_of_the_head_first_and_values_keep_their_types(tmp_path):
    path = csv_file(tmp_path, '{"d": "2020-01-01", "x": 1.5}\n{"x": 2, "id": "007", "z": [1]}\n')
    first, second = frames(TabularDataset.from_json_lines_files(path), 1)
    assert list(first) == list(second) == ["d", "x", "id", "z"]
    assert second["x"].dtype == "float64"
    assert second["id"].tolist() == ["007"]
    assert first["d"].tolist() == ["2020-01-01"]


@pytest.mark.parametrize("line", ["{", "3", '{"a": 1} {"b": 2}', "\x00"])
def test_a_line_that_is_no_object_is_an_error_that_names_file_and_line(tmp_path, line):
    path = csv_file(tmp_path, '{"a": 1}\n\n' + line + '\n{"a": 3}\n')
    dataset = TabularDataset.from_json_lines_files(path)
    spec = dataset.reader()
    batches = dataset.plan(1)
    with pytest.raises(ReadError, match="table.csv, line 3: "):
        read(batches[1], spec)
    assert read(batches[2], spec)["a"].tolist() == [3]


def parquet_file(path, count, groups):
    frame = pd.DataFrame({"n": range(count), "s": [str(n) for n in range(count)]})
    frame.to_parquet(path, row_group_size=count // groups)
    return frame


def test_row_groups_are_packed_whole_up_to_the_size_and_rows_are_known(tmp_path):
    whole = parquet_file(tmp_path / "a.parquet", 1000, 10)
    dataset = TabularDataset.from_parquet_files(tmp_path)
    assert [batch.items for batch in dataset.plan(1)] == [100] * 10
    assert [batch.items for batch in dataset.plan(1 << 20)] == [1000]
    parquet_file(tmp_path / "a.parquet", 1000, 1)
    assert [batch.items for batch in dataset.plan(1)] == [1000]
    parquet_file(tmp_path / "a.parquet", 1000, 10)
    from prs_dask.datasets.parquet import row_groups

    with (tmp_path / "a.parquet").open("rb") as file:
        sizes = [size for _, size in row_groups(file)]
    packed = dataset.plan(sum(sizes[:3]))
    assert packed[0].stop == 3
    assert sum(batch.items for batch in packed) == 1000
    assert pd.concat(frames(dataset, sum(sizes[:3])), ignore_index=True).equals(whole)


def test_damaged_parquet_fails_its_own_mini_batch_and_empty_ones_give_none(tmp_path):
    parquet_file(tmp_path / "2.parquet", 10, 1)
    pd.DataFrame({"n": []}).to_parquet(tmp_path / "0.parquet")
    data = (tmp_path / "2.parquet").read_bytes()
    (tmp_path / "1.parquet").write_bytes(data[: len(data) // 2])
    (tmp_path / "3.parquet").write_bytes(b"")
    dataset = TabularDataset.from_parquet_files(tmp_path)
    first, second, third = dataset.plan()
    assert len(read(second, dataset.reader())) == 10
    for batch in (first, third):
        with pytest.raises(ReadError, match=batch.path):
            read(batch, dataset.reader())


def test_settings_that_cannot_work_are_told_together():
    with pytest.raises(SettingsError) as raised:
        TabularDataset.from_delimited_files(
            "x", separator="||", header="yes", encoding="klingon", support_multi_line="maybe", dtype={"a": "no such"}
        )
    assert {fault.name for fault in raised.value.faults} == {
        "separator", "header", "encoding", "support_multi_line", "dtype",
    }  # fmt: skip


@pytest.mark.parametrize("wrong", [{"separator": None}, {"header": None}, {"encoding": 3}, {"include_path": "yes"}])
def test_options_of_another_type_are_told_like_other_wrong_ones(wrong):
    with pytest.raises(SettingsError, match=f"{next(iter(wrong))}: found .*allowed"):
        TabularDataset.from_delimited_files("x", **wrong)


def test_sizes_may_be_written_with_units_and_wrong_ones_are_told(tmp_path):
    dataset = TabularDataset.from_delimited_files(csv_file(tmp_path, "a,b\n" + "1,2\n" * 1000))
    assert dataset.plan("1KB") == dataset.plan(1024)
    assert dataset.to_dask("1kb").npartitions == len(dataset.plan(1024)) == 4
    for wrong in ("10 MB", "1.5MB", "", 0, -1, 1.5, True, b"1"):
        with pytest.raises(SettingsError, match="mini_batch_size: found .*'10MB'"):
            dataset.plan(wrong)
    for wrong in (-1, "5", 2.0):
        with pytest.raises(SettingsError, match="n: found"):
            dataset.take(wrong)


@pytest.mark.parametrize("other", [";", "\t", "|"])
def test_a_table_that_seems_to_have_another_separator_is_read_and_told_once(tmp_path, caplog, other):
    path = csv_file(tmp_path, f"a{other}b\n1{other}2\n")
    dataset = TabularDataset.from_delimited_files(path)
    for _ in range(2):
        assert list(dataset.to_pandas().columns) == [f"a{other}b"]
    (told,) = [record.getMessage() for record in caplog.records]
    assert f"set separator={other!r}" in told
    caplog.clear()
    assert len(TabularDataset.from_delimited_files(path, separator=other).to_pandas().columns) == 2
    assert not caplog.records


def test_text_in_another_encoding_is_told_with_what_to_set(tmp_path):
    csv_file(tmp_path, "a,b\n1,x\n2,é\n".encode("latin-1"), "1.csv")
    csv_file(tmp_path, "a,b\n1,x\n".encode("utf-16"), "2.csv")
    dataset = TabularDataset.from_delimited_files(tmp_path)
    told = []
    for batch in dataset.plan():
        with pytest.raises(ReadError) as caught:
            read(batch, dataset.reader())
        told.append(str(caught.value))
    assert "1.csv, from line 2 on: column 'b': found bytes that are not UTF-8" in told[0]
    assert "encoding='windows-1252'" in told[0]
    assert "2.csv: found the byte order mark of UTF-16; allowed: UTF-8, unless encoding='utf-16'" in told[1]


def test_what_is_not_built_yet_is_refused_and_secrets_are_never_shown(tmp_path):
    with pytest.raises(SettingsError, match="URLs without secrets") as raised:
        TabularDataset.from_parquet_files("s3://bucket/x?sig=canary", storage_options={"key": "canary"})
    assert "canary" not in str(raised.value)
    assert "canary" not in repr(TabularDataset.from_parquet_files(tmp_path, storage_options={"key": "canary"}))


def test_to_dask_has_a_partition_for_every_mini_batch(tmp_path):
    path = csv_file(tmp_path, "a,b\n" + "1,x\n" * 100)
    dataset = TabularDataset.from_delimited_files(path)
    collection = dataset.to_dask(100)
    assert collection.npartitions == len(dataset.plan(100))
    assert collection.compute(scheduler="synchronous").values.tolist() == [[1, "x"]] * 100
    assert dataset.take(7).equals(dataset.to_pandas()[:7])
