"""Results become rows."""

from __future__ import annotations

import csv
import enum
import io
import json
import pickle
import subprocess
import sys
from collections import deque, namedtuple
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.errors import SettingsError
from prs_dask.output.row_format import RowFormat, row_format
from prs_dask.output.rows import BadResult, ResultKind, check_result, header_line, iter_rows, materialise

PLAIN = row_format()


def rows(result: Any, how: RowFormat = PLAIN, piece_bytes: int = 1 << 20) -> bytes:
    pieces = list(iter_rows(materialise(result), how, piece_bytes))
    assert all(0 < len(piece) <= piece_bytes for piece in pieces)
    return b"".join(pieces)


class Colour(str, enum.Enum):  # noqa: UP042 - its str() is what no StrEnum's is
    RED = "red"


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (["a", "b c"], b"a\nb c\n"),
        (("a", 1, None, 2.5), b"a\n1\nNone\n2.5\n"),
        ([], b""),
        ([""], b"\n"),
        (Point(1, 2), b"1\n2\n"),
        ([Colour.RED], b"Colour.RED\n"),
        (["two\nlines", "crlf\r\n"], b"two\nlines\ncrlf\r\n\n"),
        ((str(n) for n in range(3)), b"0\n1\n2\n"),
        (map(str, [1, 2]), b"1\n2\n"),
        (numpy.array([1.5, 2.0]), b"1.5\n2.0\n"),
        (numpy.array([[1, 2], [3, 4]]), b"[1 2]\n[3 4]\n"),
        (numpy.array(["x", "y"]), b"x\ny\n"),
        (numpy.array([]), b""),
        (pandas.Series([1, 2], index=["i", "j"]), b"1\n2\n"),
        (pandas.Series(["a", None], dtype=object), b"a\nNone\n"),
        (pandas.DataFrame({"a": [1, 2], "b": ["x", "y z"]}), b'1 x\n2 "y z"\n'),
        (pandas.DataFrame({"a": []}), b""),
        (pandas.DataFrame(), b""),
        (pandas.DataFrame([[1, 2]], columns=["a", "a"]), b"1 2\n"),
    ],
)
def test_each_kind_of_result_becomes_rows(result: Any, expected: bytes) -> None:
    assert rows(result) == expected


@pytest.mark.parametrize(
    ("result", "name"),
    [
        (None, "None"),
        (3, "int"),
        ({"a": 1}, "dict"),
        ("text", "str"),
        (b"bytes", "bytes"),
        ({1}, "set"),
        (True, "bool"),
        (1.5, "float"),
        (numpy.array(3), "numpy.ndarray without dimensions"),
        (numpy.float64(3), "numpy.float64"),
        (deque([1]), "collections.deque"),
        (pandas.Index([1]), "pandas"),
        ([].append, "builtin_function_or_method"),
        (range(3), "range"),
        (list, "type"),
    ],
)
def test_anything_else_is_refused_by_the_name_of_its_type(result: Any, name: str) -> None:
    with pytest.raises(BadResult, match=rf"run\(\) returned .*{name}.*; allowed: a list.*; try: return"):
        check_result(materialise(result))
    assert isinstance(pickle.loads(pickle.dumps(BadResult("x"))), BadResult)


def test_results_are_counted() -> None:
    assert check_result(["a", "b\nc"]) == (ResultKind.ELEMENTS, 2)
    assert check_result(materialise(iter("abc"))) == (ResultKind.ELEMENTS, 3)
    assert check_result(pandas.DataFrame({"a": [1, 2]})) == (ResultKind.TABLE, 2)
    assert check_result(pandas.Series([1])) == (ResultKind.ELEMENTS, 1)
    assert check_result(numpy.zeros((4, 2))) == (ResultKind.ELEMENTS, 4)


def test_an_error_within_a_generator_is_the_users() -> None:
    def broken() -> Any:
        yield "a"
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        materialise(broken())


def test_an_element_without_text_raises_what_its_str_raises() -> None:
    class Mute:
        def __str__(self) -> str:
            raise RuntimeError("no words")

    with pytest.raises(RuntimeError, match="no words"):
        rows([Mute()])


def test_paths_that_are_no_utf8_go_back_to_their_bytes() -> None:
    assert rows([b"\xff/\xc3\xa9".decode("utf-8", "surrogateescape")]) == b"\xff/\xc3\xa9\n"
    assert rows(["\ud800\udc00 \ude00"]) == b"\\ud800\x00 \\ude00\n".replace(b"\x00", b"\\udc00")


@given(st.lists(st.text(st.characters(exclude_categories=())), max_size=8), st.integers(1, 40))
def test_pieces_together_are_the_rows_whatever_their_size(elements: list[str], piece_bytes: int) -> None:
    whole = rows(elements)
    assert rows(elements, piece_bytes=piece_bytes) == whole
    assert rows(pandas.Series(elements, dtype=object), piece_bytes=piece_bytes) == whole
    clean = [text for text in elements if text.isprintable()]
    assert rows(clean) == "".join(f"{text}\n" for text in clean).encode()


def test_many_elements_leave_in_pieces() -> None:
    elements = [f"row {n}" for n in range(300_000)]
    pieces = list(iter_rows(elements, PLAIN, 100_000))
    assert max(map(len, pieces)) <= 100_000
    assert len(pieces) < 1.2 * sum(map(len, pieces)) / 90_000
    assert b"".join(pieces) == "".join(f"{text}\n" for text in elements).encode()


def test_large_results_are_not_copied_as_a_whole() -> None:
    import tracemalloc

    elements = ["x" * 5_000_000 for _ in range(8)]
    tracemalloc.start()
    length = sum(map(len, iter_rows(elements, PLAIN)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert length == 40_000_008
    assert peak < 6_000_000


FRAMES = [
    pandas.DataFrame({"t": pandas.date_range("2020-01-01", periods=70_000, freq="7h"), "x": range(70_000)}),
    pandas.DataFrame({"f": numpy.linspace(0, 1, 120_001)}, index=numpy.arange(120_001) * 3),
    pandas.DataFrame({"s": ["a b", 'q"q', "n\nl", ""] * 30_000, "m": [1, None] * 60_000}),
]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("more", [{}, {"index": True, "sep": ",", "header": True}, {"na_rep": "-"}])
def test_slices_of_a_table_are_what_one_to_csv_writes(frame: pandas.DataFrame, more: dict[str, Any]) -> None:
    arguments = {"sep": " ", "index": False, "header": False, **more}
    how = row_format(more)
    whole = header_line(frame, how) + rows(frame, how)
    assert whole == frame.to_csv(lineterminator="\n", **arguments).encode()


def test_the_header_line_of_a_table_is_kept_apart_from_its_rows() -> None:
    how = row_format({"sep": ","}, header=True)
    frame = pandas.DataFrame({"a b": [1], "é": [2]})
    assert (header_line(frame, how), rows(frame, how)) == ("a b,é\n".encode(), b"1,2\n")
    assert (header_line(frame.iloc[:0], how), rows(frame.iloc[:0], how)) == ("a b,é\n".encode(), b"")
    assert header_line(["a"], how) == header_line(frame, PLAIN) == header_line(frame, None) == b""
    assert header_line(pandas.DataFrame(), how) == b""
    assert header_line(frame, row_format({"header": ["x", "y"]})) == b"x y\n"
    multi = pandas.DataFrame([[1, 2]], columns=pandas.MultiIndex.from_tuples([("a", "b"), ("a", "c")]))
    assert header_line(multi, how) == b"a,a\nb,c\n"


def test_arguments_of_to_csv_are_obeyed() -> None:
    frame = pandas.DataFrame({"a": [1.23456, None], "b": ["x,y", "z"]})
    how = row_format({"sep": ",", "float_format": "%.2f", "na_rep": "NA", "columns": ["b", "a"], "quoting": 1})
    assert list(csv.reader(io.StringIO(rows(frame, how).decode()))) == [["x,y", "1.23"], ["z", "NA"]]


def test_missing_columns_raise_what_to_csv_raises() -> None:
    with pytest.raises(KeyError):
        rows(pandas.DataFrame({"a": [1]}), row_format({"columns": ["b"]}))


def test_summary_only_has_no_rows() -> None:
    assert rows(["a"], row_format(action="summary_only")) == b""
    assert list(iter_rows(["a"], None)) == []


def write(folder: Path, content: Any) -> Path:
    path = folder / "parallel_run_step.settings.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_config_wins_over_the_settings_file_over_the_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, {"append_row": {"pandas.DataFrame.to_csv": {"sep": ",", "index": True}}})
    assert dict(row_format(None, path).to_csv) == {"sep": ",", "index": True}
    assert dict(row_format({"sep": ";"}, path).to_csv) == {"sep": ";", "index": True}
    assert dict(row_format(None, tmp_path / "none").to_csv) == {"sep": " ", "index": False}
    assert row_format({"lineterminator": "\n"}) == PLAIN
    assert pickle.loads(pickle.dumps(row_format(None, path, header=True))) == row_format(None, path, header=True)


@pytest.mark.parametrize(
    "content", ["{", "[]", "3", '{"append_rows": {}}', '{"append_row": {"to_csv": {}}}', '{"append_row": 3}']
)
def test_a_settings_file_that_is_wrong_is_named(tmp_path: Path, content: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(SettingsError) as caught:
        row_format(None, path)
    (fault,) = caught.value.faults
    assert fault.name == str(path)
    assert fault.found
    assert fault.allowed
    assert json.loads(fault.try_this) == {"append_row": {"pandas.DataFrame.to_csv": {"sep": ","}}}


def test_a_settings_file_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "{}")
    path.write_bytes(b"\xff\xff")
    with pytest.raises(SettingsError, match="UTF-8 JSON"):
        row_format(None, path)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, {"append_row": {"pandas.DataFrame.to_csv": {"seperator": ",", "mode": "a"}}})
    with pytest.raises(SettingsError) as caught:
        row_format({"sep": ", ", "quoting": 9, "encoding": "utf-8"}, path)
    faults = caught.value.faults
    found = ["argument 'seperator'", "argument 'mode'", "', '", "9", "argument 'encoding'"]
    assert [fault.found for fault in faults] == found
    assert all("sep" in fault.allowed for fault in faults[:2])
    with pytest.raises(SettingsError, match="a mapping"):
        row_format(["sep"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sep", "\n"),
        ("sep", ""),
        ("na_rep", 0),
        ("float_format", "%d %d"),
        ("float_format", "{:.2f}"),
        ("columns", "abc"),
        ("header", 1),
        ("index", "true"),
        ("quoting", True),
        ("chunksize", 1000),
        ("quoting", 3),
        ("lineterminator", "\r\n"),
        ("compression", "gzip"),
        ("path_or_buf", "/etc/passwd"),
    ],
)
def test_values_that_would_fail_on_a_worker_are_refused_here(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=name):
        row_format({name: value})


def test_what_is_accepted_is_accepted_by_to_csv() -> None:
    accepted = {
        "sep": ";",
        "na_rep": "?",
        "float_format": "%.1f",
        "columns": ["a"],
        "header": ["A"],
        "index": True,
        "index_label": "n",
        "quoting": 2,
        "quotechar": "'",
        "doublequote": False,
        "escapechar": "\\",
        "date_format": "%Y",
        "decimal": ",",
    }
    table, how = pandas.DataFrame({"a": [1.25]}), row_format(accepted)
    assert header_line(table, how) + rows(table, how) == b"'n';'A'\n0;'1,2'\n"


def test_the_worker_process_gets_no_packages_it_does_not_need() -> None:
    code = "import sys; import prs_dask.output.rows as r; r.check_result(['a']); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pandas", "numpy", "pyarrow", "dask", "distributed", "fsspec"} & set(modules)
