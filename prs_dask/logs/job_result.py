"""How a step run ended, as its driver told it: job_result.txt for people, job_result.json for programs. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from prs_dask.logs.summary import StepSummary, format_job_result

__all__ = ["JobResult"]


@dataclass(frozen=True, slots=True)
class JobResult:
    """The end of a step run, or of one part of it where it was resumed.

    Parameters
    ----------
    summary
        State, counts and times.
    cause
        Why it failed or was canceled; empty where it has completed.
    output
        Where the rows are: the output, or the ``.partial`` of one that has not completed.
    open_first
        The log to begin with; empty where there is nothing to look into.
    resume
        The command, or the call, that goes on with it; empty where it has completed.
    """

    summary: StepSummary
    cause: str = ""
    output: str = ""
    open_first: str = ""
    resume: str = ""

    def text(self) -> str:
        """The whole of ``job_result.txt``."""
        return format_job_result(
            self.summary, cause=self.cause, output=self.output, open_first=self.open_first, resume=self.resume
        )

    def to_json(self) -> str:
        """The whole of ``job_result.json``; ASCII."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> JobResult:
        """What `to_json` was given.

        Raises
        ------
        ValueError
            It is something else, or torn.
        """
        try:
            content = json.loads(text)
            told = {name: content["summary"][name] for name in (field.name for field in fields(StepSummary))}
            words = {name: content[name] for name in ("cause", "output", "open_first", "resume")}
        except (TypeError, LookupError, RecursionError) as error:
            raise ValueError(f"no result of a step run: {type(error).__name__}: {error}") from None
        state, *numbers = told.values()
        if not all(isinstance(one, str) for one in (state, *words.values())):
            raise ValueError("no result of a step run: what should be text is something else")
        if not all(isinstance(one, int | float) for one in numbers):
            raise ValueError("no result of a step run: what should be a number is something else")
        return cls(StepSummary(**told), **words)
