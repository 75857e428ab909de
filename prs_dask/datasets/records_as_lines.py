"""``support_multi_line=False``: every line is a record, and it is an error if the quotes say otherwise.

A file is cut at line breaks near the blocks' edges, without a look at what lies between. Whether a cut
went through a quoted field is seen when the blocks are read: each is checked as if it began outside of
quotes. If no block has a quote that is open at a line's end, then the first block, which does begin
outside, also ends outside, so the second begins outside, and so on: no cut went through a field. If one has, all
blocks behind it may be wrong, and the step run ends (``UnsafeCut``); only a file's last block has
none behind it. A block also looks at what lies just before it, so that most broken fields are seen before
their second half is handed out.
"""

from __future__ import annotations

from collections.abc import Callable

from prs_dask.datasets.quotes import unclosed_in_line
from prs_dask.datasets.read_spec import ReadError, ReadSpec, UnsafeCut
from prs_dask.datasets.text_file import text_start

__all__ = ["LOOK_BEHIND", "are_records_lines", "check_lines"]

LOOK_BEHIND = 1 << 13
"""So many bytes before a block are looked at too."""


def are_records_lines(spec: ReadSpec) -> bool:
    """Whether a line is a record because the user said so."""
    return spec.kind == "delimited" and not spec.multi_line


def check_lines(
    path: str, data: bytes, offset: int, before: int, line_at: Callable[[int], int], spec: ReadSpec, *, is_last: bool
) -> None:
    """Raise the error for a quote that is open at the end of a line.

    Parameters
    ----------
    data
        A block, and before it up to ``LOOK_BEHIND`` bytes of what precedes it in the file.
    offset
        Where ``data`` begins in the file.
    before
        How many bytes of ``data`` lie before the block.
    line_at
        Called with a place in the file for the number of its line.
    is_last
        Whether the block reaches to the end of the file.
    """
    if offset:  # somewhere within a line
        begin = min(filter(None, (data.find(b"\n", 0, before) + 1, data.find(b"\r", 0, before) + 1)), default=before)
    else:
        begin = text_start(data)
    place = unclosed_in_line(data[begin:], spec.separator.encode())
    if place is None:
        return
    place += begin
    message = (
        f"{path}, line {line_at(offset + place)}, byte {offset + place}: a quote is still open at the end of the line, "
        "and support_multi_line=False says that every line is a row; if the field goes on in the next line set "
        'support_multi_line="auto", otherwise mend the line'
    )
    if is_last and place >= before:
        raise ReadError(message)
    raise UnsafeCut(message)
