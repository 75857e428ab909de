"""OpenTelemetry spans of a step run and of its attempts, where somebody has configured tracing.

Configured is a tracer provider that the program has set, or the standard environment variables
(``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_TRACES_EXPORTER``); those need the extra ``otel``. Otherwise nothing is
imported.

The step run is a child of the span that was current when it was submitted. An attempt is a child of the step run.
At most `MOST_A_SECOND` attempts are told, failed ones first, so that a million quick mini-batches cost no more than
a few hundred slow ones; the span of the step run says how many were left out. What goes wrong here fails nothing.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from prs_dask.attempts.records import RECORD_SIZE, AttemptError, AttemptRecord, Category, unpack
from prs_dask.logs.text import process_name, shortened

if TYPE_CHECKING:
    from prs_dask.logs.summary import StepSummary
    from prs_dask.mini_batches import Part

__all__ = ["MOST_A_SECOND", "Spans", "spans_for"]

MOST_A_SECOND = 100
MOST_TEXT = 2000
FLUSH_SECONDS = 5.0
_DISABLED = "OTEL_SDK_DISABLED"
_EXPORTER = "OTEL_TRACES_EXPORTER"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def spans_for(run_id: str, name: str, redact: Callable[[str], str], tell: Callable[[str], None]) -> Spans | None:
    """The spans of a step run that begins now; None where tracing is not configured.

    Parameters
    ----------
    redact
        Takes secrets out of texts.
    tell
        Is told why there are none, where somebody wants them.
    """
    try:
        found = _tracer(os.environ)
        return None if found is None else Spans(*found, run_id, name, redact)
    except ImportError as error:
        tell(f"no OpenTelemetry spans: {error}; pip install 'prs-dask[otel]'")
    except Exception as error:
        tell(f"no OpenTelemetry spans: {type(error).__name__}: {error}")
    return None


def _tracer(environment: Mapping[str, str]) -> tuple[Any, Any] | None:
    """The tracer, and the provider where it is our own and to be shut down."""
    exporter = _wanted_exporter(environment)
    if exporter is None or (not exporter and "opentelemetry.trace" not in sys.modules):
        return None
    from opentelemetry import trace

    from prs_dask import __version__

    provider, own = trace.get_tracer_provider(), None
    if isinstance(provider, trace.ProxyTracerProvider):
        if not exporter:
            return None
        provider = own = _provider(exporter)
    return provider.get_tracer("prs_dask", __version__), own


def _wanted_exporter(environment: Mapping[str, str]) -> str | None:
    """What the environment asks for: an exporter, empty for none of its own, None to be off."""
    if environment.get(_DISABLED, "").lower() == "true":
        return None
    exporter = environment.get(_EXPORTER, "otlp" if any(environment.get(name) for name in _ENDPOINTS) else "")
    return None if exporter == "none" else exporter


def _provider(exporter: str) -> Any:
    """A provider as the environment describes it; the SDK reads the other variables itself."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    made: Any
    if exporter == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        made = OTLPSpanExporter()
    elif exporter == "console":
        made = ConsoleSpanExporter(out=sys.stderr)
    else:
        raise ValueError(f"{_EXPORTER}: found {exporter!r}; allowed: otlp, console, none")
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(made))
    return provider


class Spans:
    """The span of a step run, and those of its attempts.

    Parameters
    ----------
    tracer
        Of OpenTelemetry.
    own
        Its provider, to be shut down at the end; None where it is somebody else's.
    run_id, name
        Of the step run.
    redact
        Takes secrets out of texts.
    clock
        Seconds.
    """

    def __init__(
        self,
        tracer: Any,
        own: Any,
        run_id: str,
        name: str,
        redact: Callable[[str], str] = str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from opentelemetry.trace import set_span_in_context

        self._tracer = tracer
        self._own = own
        self._redact = redact
        self._clock = clock
        self._refilled, self._room = clock(), float(MOST_A_SECOND)
        self._left_out = 0
        self._span = tracer.start_span(f"step run {name}", attributes={"prs_dask.run_id": run_id})
        self._context = set_span_in_context(self._span)
        self._works = bool(self._span.is_recording())

    def attempts(
        self,
        node: int,
        process: int,
        records: bytes,
        errors: Mapping[int, AttemptError],
        parts: Mapping[int, Part],
    ) -> None:
        """Attempts that ended, see `Recorder.attempts`."""
        if not self._works:
            return
        try:
            for record in self._chosen(records, bool(errors)):
                self._attempt(node, process, record, errors.get(record.mini_batch), parts.get(record.mini_batch))
        except Exception:
            self._works = False  # somebody else's provider; the step run does not depend on it

    def _chosen(self, records: bytes, some_failed: bool) -> list[AttemptRecord]:
        """As many as there is room for, failed ones first; all are looked at only where some have failed."""
        now = self._clock()
        self._room = min(float(MOST_A_SECOND), self._room + (now - self._refilled) * MOST_A_SECOND)
        self._refilled = now
        room, count = int(self._room), len(records) // RECORD_SIZE
        if some_failed and room < count:
            chosen = list(islice((record for record in unpack(records) if record.category), room))
            others = (record for record in unpack(records) if not record.category)
            chosen += islice(others, room - len(chosen))
        else:
            chosen = list(unpack(records[: room * RECORD_SIZE]))
        self._room -= len(chosen)
        self._left_out += count - len(chosen)
        return chosen

    def _attempt(
        self, node: int, process: int, record: AttemptRecord, error: AttemptError | None, part: Part | None
    ) -> None:
        from opentelemetry.trace import Status, StatusCode

        begin = int(record.started * 1e9)
        end = begin + int(record.elapsed * 1e9)
        attributes = {
            "prs_dask.mini_batch": str(record.mini_batch if part is None else part),
            "prs_dask.attempt": record.attempt,
            "prs_dask.node": node,
            "prs_dask.process": process_name(process),
            "prs_dask.items": record.items,
            "prs_dask.results": record.results,
            "prs_dask.read_seconds": record.read,
            "prs_dask.run_seconds": record.run,
            "prs_dask.cpu_seconds": record.cpu,
            "prs_dask.category": Category(record.category).label,
        }
        span = self._tracer.start_span("attempt", context=self._context, start_time=begin, attributes=attributes)
        if record.category not in (Category.SUCCEEDED, Category.OVERTAKEN):
            text = "" if error is None else self._text(f"{error.type}: {error.message}")
            span.set_status(Status(StatusCode.ERROR, text or Category(record.category).label))
            if error is not None:
                what = {
                    "exception.type": error.type,
                    "exception.message": self._text(error.message),
                    "exception.stacktrace": self._text(error.traceback),
                }
                span.add_event("exception", what, timestamp=end)
        span.end(end_time=end)

    def end(self, summary: StepSummary, cause: str) -> None:
        """The step run has ended; what was not sent yet is sent for at most so long as `FLUSH_SECONDS`."""
        try:
            self._end(summary, cause)
        except Exception:
            self._works = False
        if self._own is not None:
            thread = threading.Thread(target=self._own.shutdown, name="prs-spans", daemon=True)
            thread.start()
            thread.join(FLUSH_SECONDS)

    def _end(self, summary: StepSummary, cause: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        for name in ("state", "mini_batches", "succeeded_mini_batches", "failed_mini_batches", "items"):
            self._span.set_attribute(f"prs_dask.{name}", getattr(summary, name))
        for name in ("succeeded_items", "failed_items", "attempts", "rows"):
            self._span.set_attribute(f"prs_dask.{name}", getattr(summary, name))
        self._span.set_attribute("prs_dask.attempts_without_span", self._left_out)
        if summary.state == "Failed":
            self._span.set_status(Status(StatusCode.ERROR, self._text(cause)))
        self._span.end()

    def _text(self, text: str) -> str:
        return shortened(self._redact(text), MOST_TEXT).encode("utf-8", "backslashreplace").decode()
