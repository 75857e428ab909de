"""``python -m tests.fuzz``: texts that atheris makes up from which code they reach, held against Python's csv module.

Needs ``pip install -e .[fuzz]``. Ends after a fixed number of inputs, or with the first one that is wrong: its text and
its settings are printed, and the same seed finds it again. Good ones are kept for the next time with ``--corpus``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import atheris
import click

with atheris.instrument_imports(include=["prs_dask.datasets"]):
    from prs_dask.datasets import cutting, delimited, json_lines, quotes, record_starts, records_as_lines

from prs_dask.datasets.read_spec import ReadError, ReadSpec, UnsafeCut
from tests.unit.datasets.test_oracle import ends_inside_quotes, expected_rows, in_blocks, records_of, text_rows

CHUNKS = (1, 2, 3, 7, 16, 63, 64, 65, 128, 4096)
ALPHABET = b'a,"\n\r"b,"\n1 \xc3\xa9\t;\0'
"""A byte of the input stands for one of these: most random bytes would be no csv."""


class _Wrong(Exception):
    """What is found differs from what csv says."""


def _expect(found: object, expected: object, what: str, **settings: object) -> None:
    if found != expected:
        raise _Wrong(f"{what}\n{settings}\nfound    {found!r}\nexpected {expected!r}")


def splitter(data: bytes, chunk: int, size: int) -> None:
    """Blocks hold the records that csv finds, whatever the block and the chunk; an open quote is told."""
    scan = record_starts.RecordStarts(lambda offset, count: data[offset : offset + count], chunk_size=chunk)
    try:
        found = [start for start, _ in cutting.blocks(scan, scan.first(), len(data), size)]
    except record_starts.OpenQuote as error:
        _expect(True, ends_inside_quotes(data), "open quote", data=data, chunk=chunk, size=size)
        _expect(data[error.offset : error.offset + 1], b'"', "its place", data=data, chunk=chunk)
        return
    _expect(ends_inside_quotes(data), False, "open quote", data=data, chunk=chunk, size=size)
    expected = [block[0].start for block in in_blocks(records_of(data), size)]
    _expect(found, expected, "starts of blocks", data=data, chunk=chunk, size=size)


def lines(data: bytes, chunk: int, size: int) -> None:
    """Where no block has a quote open at a line's end, every line is a record of csv."""
    scan = record_starts.RecordStarts(
        lambda offset, count: data[offset : offset + count], quoted=False, chunk_size=chunk
    )
    spec = ReadSpec("delimited", multi_line=False)
    cut = list(cutting.blocks(scan, scan.first(), len(data), size))
    for start, stop in cut:
        before = min(start, chunk)
        try:
            records_as_lines.check_lines(
                "t", data[start - before : stop], start - before, before, lambda _: 1, spec, is_last=stop == len(data)
            )
        except UnsafeCut:
            return
        except ReadError:
            break
    last = cut[-1][0] if cut else 0
    expected = {record.start for record in records_of(data)}
    in_lines = [place for place in _line_starts(data) if place < last]
    _expect(in_lines, sorted(start for start in expected if start < last), "records as lines", data=data, size=size)


def _line_starts(data: bytes) -> list[int]:
    starts, place = [], 0
    for line in data.replace(b"\r", b"\n").split(b"\n"):
        if line:
            starts.append(place)
        place += len(line) + 1
    return starts


def parser(data: bytes, chunk: int, size: int) -> None:
    """A block has csv's rows, or is an error if one of them has other columns."""
    if ends_inside_quotes(data):
        return
    records = records_of(data)
    columns = len(records[0].fields) if records else 1
    names = tuple(f"c{number}" for number in range(columns))
    block = delimited.Block(data, names, "t.csv", lambda: 1)
    fits = all(len(record.fields) == columns for record in records)
    try:
        expected = expected_rows(records)
    except UnicodeDecodeError:
        fits = False
    try:
        found = text_rows(delimited.parse(block, ReadSpec("delimited", names=names, dtype="str")))
    except ReadError:
        _expect(fits, False, "an error", data=data)
        return
    _expect(fits, True, "no error", data=data)
    _expect(found, expected, "rows", data=data)


def broken_line(data: bytes, chunk: int, size: int) -> None:
    """The first quote that is open at its line's end is found, however the text is cut into chunks."""
    whole = quotes.unclosed_in_line(data, b",")
    scan = quotes.Quotes(b",")
    found = None
    for start in range(0, len(data), chunk):
        scan.next(data[start : start + chunk], start)
        found = scan.unclosed_in_line() if found is None else found
    if found is None and data and scan.ends_inside:
        scan.next(b"\n", len(data))
        found = scan.unclosed_in_line()
    _expect(found, whole, "broken line", data=data, chunk=chunk)


def json(data: bytes, chunk: int, size: int) -> None:
    """Whatever the bytes, a line is a row or an error that names the file."""
    try:
        json_lines.parse(data, "t.jsonl", lambda: 1, ReadSpec("json_lines"))
    except ReadError as error:
        _expect("t.jsonl" in str(error), True, "an error without the file", data=data)


TARGETS: dict[str, Callable[[bytes, int, int], None]] = {
    function.__name__.replace("_", "-"): function for function in (splitter, lines, parser, broken_line, json)
}


@click.command(help=__doc__)
@click.argument("target", type=click.Choice(sorted(TARGETS)), default="splitter")
@click.option("--inputs", default=200_000, show_default=True, help="How many inputs to try.")
@click.option("--seed", default=1, show_default=True, help="The same inputs with the same seed.")
@click.option("--corpus", type=click.Path(path_type=Path, file_okay=False), help="Folder of inputs to begin with.")
def main(target: str, inputs: int, seed: int, corpus: Path | None) -> NoReturn:
    """Fuzz one target."""
    function = TARGETS[target]

    def one(data: bytes) -> None:
        if len(data) < 2:
            return
        chunk, size = CHUNKS[data[0] % len(CHUNKS)], 1 + data[1] % 80
        text = data[2:] if target == "json" else bytes(ALPHABET[byte % len(ALPHABET)] for byte in data[2:])
        function(text, chunk, size)

    if corpus is not None:
        corpus.mkdir(parents=True, exist_ok=True)
    folders = [str(corpus)] if corpus is not None else []
    options = [f"-runs={inputs}", f"-seed={seed}", "-max_len=160", "-len_control=0", "-print_final_stats=1"]
    options.append("-artifact_prefix=/dev/null")
    atheris.Setup([sys.argv[0], *options, *folders], one)
    atheris.Fuzz()
    raise SystemExit  # atheris ends the process itself


if __name__ == "__main__":
    main()
