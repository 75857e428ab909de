"""Spans of a step run and its attempts, where tracing is configured; bounded, and never in the way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

from prs_dask.attempts.records import AttemptError, AttemptRecord, Category, pack
from prs_dask.logs.summary import StepSummary
from prs_dask.mini_batches import Part
from prs_dask.pipeline.spans import MOST_A_SECOND, Spans, spans_for

SUMMARY = StepSummary("Failed", 3, 1, 2, 3, 1, 2, 4, 1, 1.0, 2.0)


def record(number: int, category: Category = Category.SUCCEEDED) -> AttemptRecord:
    return AttemptRecord(number, 1, int(category), 1, 5, 5, 10, 1_000.0 + number, 2.0, 0.5, 1.25, 1.0)


class Collected:
    """A provider that keeps what it is told."""

    def __init__(self, **settings: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **settings)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    @property
    def spans(self) -> list[Any]:
        return list(self._exporter.get_finished_spans())


@pytest.fixture
def collected() -> Iterator[Collected]:
    collected = Collected()
    yield collected
    collected.provider.shutdown()


def test_an_attempt_is_a_child_of_the_step_run_and_that_of_whoever_submitted_it(collected: Collected) -> None:
    with collected.tracer.start_as_current_span("nightly"):
        spans = Spans(collected.tracer, None, "score-1", "score", lambda text: text.replace("secret", "***"))
    error = AttemptError("ValueError", "a secret \ud800", "Traceback of a secret")
    records = pack([record(0), record(1, Category.EXCEPTION), record(7)])
    spans.attempts(2, 7, records, {1: error}, {7: Part(3, 1, 2, 9)})
    spans.end(SUMMARY, "too many items failed: secret")
    first, failed, part, outer, run = sorted(collected.spans, key=lambda span: (span.name, span.start_time))
    assert (outer.name, run.name, first.name) == ("nightly", "step run score", "attempt")
    assert run.parent.span_id == outer.context.span_id
    assert {one.parent.span_id for one in (first, failed, part)} == {run.context.span_id}
    assert (first.start_time, first.end_time) == (1_000_000_000_000, 1_002_000_000_000)
    assert first.attributes["prs_dask.process"] == "process007"
    assert first.attributes["prs_dask.run_seconds"] == 1.25
    assert part.attributes["prs_dask.mini_batch"] == "3[1:2]"
    assert (first.status.status_code, failed.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert failed.attributes["prs_dask.category"] == "exception"
    assert failed.events[0].attributes["exception.message"] == "a *** \\ud800"
    assert "secret" not in str([span.to_json() for span in collected.spans])
    assert run.attributes["prs_dask.run_id"] == "score-1"
    assert run.attributes["prs_dask.failed_mini_batches"] == 2
    assert run.status.status_code == StatusCode.ERROR


def test_quick_mini_batches_cost_no_more_than_some_and_failed_ones_come_first(collected: Collected) -> None:
    now = [0.0]
    spans = Spans(collected.tracer, None, "score-1", "score", clock=lambda: now[0])
    many = [record(number) for number in range(1000)]
    many[990] = record(990, Category.TIME_LIMIT)
    spans.attempts(0, 0, pack(many), {990: AttemptError("TimeLimit", "too long")}, {})
    assert len(collected.spans) == MOST_A_SECOND
    assert collected.spans[0].attributes["prs_dask.mini_batch"] == "990"
    spans.attempts(0, 0, pack(many), {}, {})
    assert len(collected.spans) == MOST_A_SECOND
    now[0] = 0.5
    spans.attempts(0, 0, pack(many), {}, {})
    assert len(collected.spans) == MOST_A_SECOND * 1.5
    spans.end(SUMMARY, "")
    assert collected.spans[-1].attributes["prs_dask.attempts_without_span"] == 3000 - MOST_A_SECOND * 1.5


def test_an_attempt_that_was_overtaken_has_a_span_that_is_no_error(collected: Collected) -> None:
    spans = Spans(collected.tracer, None, "score-1", "score")
    spans.attempts(0, 0, pack([record(0, Category.OVERTAKEN)]), {0: AttemptError("overtaken", "another")}, {})
    [span] = collected.spans
    assert span.status.status_code == StatusCode.UNSET
    assert span.attributes["prs_dask.category"] == "overtaken"
    assert span.events == ()


def test_a_step_run_that_is_not_sampled_has_no_attempts() -> None:
    collected = Collected(sampler=ALWAYS_OFF)
    spans = Spans(collected.tracer, None, "score-1", "score")
    spans.attempts(0, 0, pack([record(0)]), {}, {})
    spans.end(SUMMARY, "")
    assert collected.spans == []
    collected.provider.shutdown()


def test_a_provider_that_breaks_fails_nothing(collected: Collected) -> None:
    class Broken:
        def start_span(self, name: str, **settings: Any) -> Any:
            if name == "attempt":
                raise RuntimeError("no room")
            return collected.tracer.start_span(name, **settings)

    spans = Spans(Broken(), None, "score-1", "score")
    spans.attempts(0, 0, pack([record(0)]), {}, {})
    spans.attempts(0, 0, pack([record(1)]), {}, {})
    spans.end(SUMMARY, "")
    assert [span.name for span in collected.spans] == ["step run score"]


VARIABLES = (
    "OTEL_SDK_DISABLED",
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return []


def test_nothing_is_done_unless_tracing_is_configured(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert spans_for("score-1", "score", str, told.append) is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert spans_for("score-1", "score", str, told.append) is None
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert spans_for("score-1", "score", str, told.append) is None
    assert told == []


def test_what_is_asked_for_and_cannot_be_had_is_told(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    assert spans_for("score-1", "score", str, told.append) is None
    assert "found 'zipkin'; allowed: otlp, console, none" in told[0]
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert spans_for("score-1", "score", str, told.append) is None
    assert "pip install 'prs-dask[otel]'" in told[1]


def test_the_programs_own_provider_is_used_and_left_open(
    told: list[str], collected: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: collected.provider)
    spans = spans_for("score-1", "score", str, told.append)
    assert spans is not None
    spans.end(SUMMARY, "")
    collected.tracer.start_span("still open").end()
    assert [span.name for span in collected.spans] == ["step run score", "still open"]


def test_the_environment_alone_is_enough(
    told: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "nightly-scores")
    spans = spans_for("score-1", "score", str, told.append)
    assert spans is not None
    spans.attempts(0, 0, pack([record(0)]), {}, {})
    spans.end(SUMMARY, "")
    err = capsys.readouterr().err
    assert '"name": "attempt"' in err
    assert '"service.name": "nightly-scores"' in err


def test_a_program_without_tracing_does_not_import_it() -> None:
    program = """
import sys
import prs_dask.pipeline.step_run
from prs_dask.pipeline.spans import spans_for
assert spans_for("score-1", "score", str, print) is None
print([name for name in sys.modules if name.startswith("opentelemetry.sdk")])
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
