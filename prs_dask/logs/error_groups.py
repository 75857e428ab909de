"""user/error.txt and error.json: every distinct error of the user's code once, most frequent first.

Errors are one when type and the deepest frame in the user's code agree; where no frame is known,
the first line of the message, its numbers set aside, stands in for it. Memory is bounded: when
there are too many, the rarest go and are counted together. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from prs_dask.attempts.records import AttemptError
from prs_dask.logs.places import PROCESS_ERRORS, STREAMS
from prs_dask.logs.text import one_line, plain, shortened

__all__ = ["ErrorGroup", "ErrorGroups", "group_lines"]

FORMAT = 1
"""Of the JSON; what has another one is refused."""

_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+")
_MOST_OF_A_MESSAGE = 2000
_SILENT = ("SystemExit", "ProcessDied")
"""Nothing of these says why, but what the process had printed may."""
_LOG = re.compile(PROCESS_ERRORS.format(node=r"(?P<node>\d+)", process=r"(?P<process>process\d+)"))


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """One distinct error: how often, and as it was seen first.

    Parameters
    ----------
    type
        ``ValueError``; ``TimeLimit``, ``ProcessDied`` and ``OutOfMemory`` where a process was killed or has died.
    where
        The deepest frame in the user's own code: ``score.py:12 in run``; empty where none is known.
    source
        That line of the user's code; empty where it is not known.
    message
        What it said the first time, perhaps several lines.
    example
        Which mini-batch, attempt and items it hit first, or what the process was doing.
    mini_batch
        That mini-batch's name, ``7`` or ``7[3:5]``; empty where it hit none.
    log
        The file with the full traceback, relative to ``logs/``.
    count
        How often.
    latest
        How often in the last part of a step run that was resumed; ``count`` where it was not.
    first, last
        When, in seconds since the epoch.
    """

    type: str
    where: str
    source: str
    message: str
    example: str
    mini_batch: str
    log: str
    count: int
    latest: int
    first: float
    last: float


class ErrorGroups:
    """The distinct errors so far, at most ``most`` of them.

    Parameters
    ----------
    most
        How many are kept.
    source_of
        Finds the line of the user's code at which an error rose; called once for each distinct one.

    Attributes
    ----------
    total
        All errors that were counted.
    others
        Those of groups that were given up.
    resumed
        Were some of them counted in an earlier part of the step run?
    """

    def __init__(self, most: int = 1000, source_of: Callable[[AttemptError], str] = lambda _: "") -> None:
        self.total = 0
        self.others = 0
        self.resumed = False
        self._most = most
        self._source_of = source_of
        self._groups: dict[tuple[str, str], ErrorGroup] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, error: AttemptError, example: str, log: str, *, mini_batch: str = "", when: float = 0.0) -> int:
        """Count an error; how often this one was seen, this time included."""
        key = _key(error.type, error.where, error.message)
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= self._most:
                self._drop_rarest()
            message = shortened(error.message.strip(), _MOST_OF_A_MESSAGE)
            group = ErrorGroup(
                error.type, error.where, self._source_of(error), message, example, mini_batch, log, 0, 0, when, when
            )
        group = replace(group, count=group.count + 1, latest=group.latest + 1, last=max(group.last, when))
        self._groups[key] = group
        self.total += 1
        return group.count

    def most_frequent(self, most: int | None = None) -> list[ErrorGroup]:
        """Groups, most frequent first; the one seen first wins a tie."""
        return sorted(self._groups.values(), key=lambda group: -group.count)[:most]

    def worst(self) -> ErrorGroup | None:
        """The one to look at first: the most frequent of the last part of the step run; None where that has none."""
        latest = [group for group in self._groups.values() if group.latest]
        return max(latest, key=lambda group: group.latest, default=None)

    def digest(self, logs: str) -> str:
        """The error to look at first in a few lines, and the file with its traceback; empty without any.

        Parameters
        ----------
        logs
            The logs folder, as the reader may open it.
        """
        group = self.worst()
        if group is None:
            return ""
        others = sum(bool(one.latest) for one in self._groups.values()) - 1
        more = f" ({others:,} other kind{'s' * (others != 1)}: {logs}/user/error.txt)" if others else ""
        _, *lines = group_lines(replace(group, message=shortened(group.message, 500)), logs, lines_of_message=5)
        return "\n".join([f"most frequent error, {group.latest:,} x: {_title(group)}{more}", *lines])

    def text(self) -> str:
        """The whole of ``user/error.txt``."""
        lines = [f"{counted(self)}, most frequent first", ""]
        for group in self.most_frequent():
            lines += [*group_lines(group, "logs", resumed=self.resumed), ""]
        if self.others:
            lines += [f"[{self.others:,} x] errors too rare and too many to be listed one by one", ""]
        return "\n".join(lines)

    def to_json(self) -> str:
        """The whole of ``user/error.json``; ASCII."""
        groups = [asdict(group) for group in self.most_frequent()]
        content = {"format": FORMAT, "total": self.total, "others": self.others, "resumed": self.resumed}
        return json.dumps({**content, "groups": groups}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> ErrorGroups:
        """What `to_json` was called on.

        Raises
        ------
        ValueError
            It is something else, or torn.
        """
        errors = cls()
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise ValueError(f"errors of format {content['format']!r}; allowed: {FORMAT}")
            errors.total, errors.others = int(content["total"]), int(content["others"])
            errors.resumed = bool(content["resumed"])
            groups = [_group(one) for one in content["groups"]]
        except (TypeError, LookupError, AttributeError, RecursionError) as error:
            raise ValueError(f"no errors of a step run: {type(error).__name__}: {error}") from None
        errors._groups = {_key(group.type, group.where, group.message): group for group in groups}
        return errors

    def next_part(self, source_of: Callable[[AttemptError], str]) -> ErrorGroups:
        """The same, for a further part of the step run: they go on being counted."""
        following = ErrorGroups(self._most, source_of)
        following.total, following.others, following.resumed = self.total, self.others, bool(self.total)
        following._groups = {key: replace(group, latest=0) for key, group in self._groups.items()}
        return following

    def _drop_rarest(self) -> None:
        """Forget a tenth: the rarest, of those the oldest."""
        by_count = sorted(self._groups.items(), key=lambda entry: entry[1].count)
        for key, group in by_count[: max(1, self._most // 10)]:
            self.others += group.count
            del self._groups[key]


def counted(errors: ErrorGroups) -> str:
    """``1,201 errors, 2 distinct``."""
    return f"{errors.total:,} error{'s' * (errors.total != 1)}, {len(errors):,} distinct"


def group_lines(
    group: ErrorGroup, logs: str, *, resumed: bool = False, lines_of_message: int = 20, indent: str = "    "
) -> list[str]:
    """A distinct error for people: how often and where, the line of code and what was said, an example, the traceback.

    Parameters
    ----------
    logs
        The logs folder, as the reader may open it.
    resumed
        Tell how many were seen since the last resume.
    """
    since = f", {group.latest:,} of them since it was resumed" if resumed else ""
    lines = [f"[{group.count:,} x{since}] {_title(group)}"]
    if group.source:
        number = group.where.partition(":")[2].partition(" ")[0]
        lines.append(f"{indent}{one_line(number, 12)} | {one_line(group.source, 200)}")
    lines += [f"{indent}{line}" for line in plain(group.message).split("\n")[:lines_of_message]]
    if advice := _advice(group):
        lines.append(f"{indent}try: {advice}")
    if group.example:
        lines.append(f"{indent}for example: {one_line(group.example)}")
    lines.append(f"{indent}traceback: {logs}/{one_line(group.log)}")
    printed = _LOG.fullmatch(group.log) if group.type in _SILENT else None
    return (
        [*lines, f"{indent}what it printed: {logs}/{STREAMS['stderr'].format(**printed.groupdict())}"]
        if printed
        else lines
    )


def _title(group: ErrorGroup) -> str:
    return f"{one_line(group.type)} at {one_line(group.where)}" if group.where else one_line(group.type)


def _advice(group: ErrorGroup) -> str:
    """What to do about a limit; what to do about others, only their author knows."""
    if group.type == "OutOfMemory":
        return "a smaller mini_batch_size, a lower process_count_per_node, or a higher memory_limit_per_process"
    if group.type == "TimeLimit" and "run_invocation_timeout" in group.message:
        return "a smaller mini_batch_size, or a longer run_invocation_timeout"
    return ""


def _key(kind: str, where: str, message: str) -> tuple[str, str]:
    return kind, where or _NUMBERS.sub("#", message.strip().split("\n", 1)[0])[:200]


def _group(content: Mapping[str, Any]) -> ErrorGroup:
    group = ErrorGroup(**{field.name: content[field.name] for field in fields(ErrorGroup)})
    numbers: Iterable[Any] = (group.count, group.latest, group.first, group.last)
    words = (group.type, group.where, group.source, group.message, group.example, group.mini_batch, group.log)
    if not all(isinstance(one, int | float) for one in numbers) or not all(isinstance(one, str) for one in words):
        raise ValueError("no errors of a step run: a group whose fields are something else")
    return group
