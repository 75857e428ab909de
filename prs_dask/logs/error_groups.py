"""user/error.txt: every distinct error of the user's code once, most frequent first.

Errors are one when type and the deepest frame in the user's code agree; where no frame is known,
the first line of the message, its numbers set aside, stands in for it. Memory is bounded: when
there are too many, the rarest go and are counted together. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from prs_dask.attempts.records import AttemptError
from prs_dask.logs.text import one_line, plain, shortened

__all__ = ["ErrorGroup", "ErrorGroups"]

_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+")


@dataclass(slots=True)
class ErrorGroup:
    """One distinct error: how often, and where it was seen first.

    ``example`` says which mini-batch, attempt and item; ``log`` is the file with the full traceback,
    relative to ``logs/``.
    """

    type: str
    where: str
    message: str
    example: str
    log: str
    count: int = 0


class ErrorGroups:
    """The distinct errors so far, at most ``most`` of them."""

    def __init__(self, most: int = 1000) -> None:
        self.total = 0
        self.others = 0
        self._most = most
        self._groups: dict[tuple[str, str], ErrorGroup] = {}

    def add(self, error: AttemptError, example: str, log: str) -> int:
        """Count an error; how often this one was seen, this time included."""
        where = error.where or _NUMBERS.sub("#", error.message.strip().split("\n", 1)[0])[:200]
        key = (error.type, where)
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= self._most:
                self._drop_rarest()
            group = ErrorGroup(error.type, error.where, shortened(error.message.strip(), 2000), example, log)
            self._groups[key] = group
        group.count += 1
        self.total += 1
        return group.count

    def most_frequent(self, most: int | None = None) -> list[ErrorGroup]:
        """Groups, most frequent first; the one seen first wins a tie."""
        return sorted(self._groups.values(), key=lambda group: -group.count)[:most]

    def digest(self, logs: str) -> str:
        """The most frequent error in a few lines, and the file with its traceback; empty without any.

        Parameters
        ----------
        logs
            The logs folder, as the reader may open it.
        """
        if not self._groups:
            return ""
        (group,) = self.most_frequent(1)
        where = f" at {one_line(group.where)}" if group.where else ""
        others = len(self._groups) - 1
        more = f" ({others:,} other kind{'s' * (others != 1)}: {logs}/user/error.txt)" if others else ""
        lines = [f"most frequent error, {group.count:,} x: {one_line(group.type)}{where}{more}"]
        lines += [f"  {line}" for line in plain(shortened(group.message, 500)).split("\n")[:5]]
        return "\n".join([*lines, f"its traceback: {logs}/{group.log}"])

    def text(self) -> str:
        """The whole of ``user/error.txt``."""
        groups = self.most_frequent()
        errors = f"{self.total:,} error{'s' * (self.total != 1)}"
        lines = [f"{errors}, {len(groups):,} distinct, most frequent first; full tracebacks: see each", ""]
        for group in groups:
            where = f" at {one_line(group.where)}" if group.where else ""
            lines.append(f"[{group.count:,} x] {one_line(group.type)}{where}")
            lines += [f"    {line}" for line in plain(group.message).split("\n")[:20]]
            if group.example:
                lines.append(f"    for example: {one_line(group.example)}")
            lines += [f"    traceback: logs/{group.log}", ""]
        if self.others:
            lines += [f"[{self.others:,} x] errors too rare and too many to be listed one by one", ""]
        return "\n".join(lines)

    def _drop_rarest(self) -> None:
        """Forget a tenth: the rarest, of those the oldest."""
        by_count = sorted(self._groups.items(), key=lambda entry: entry[1].count)
        for key, group in by_count[: max(1, self._most // 10)]:
            self.others += group.count
            del self._groups[key]
