"""The report of every kind of run folder, as a reader of HTML sees it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from prs_dask.attempts.records import AttemptError, Category
from prs_dask.errors import OutputError, SettingsError
from prs_dask.logs.process_events import ProcessEvent
from prs_dask.report import writing
from prs_dask.report.contents import gather
from prs_dask.report.run_reading import read_run
from prs_dask.report.timeline import STARTING
from prs_dask.report.writing import write_report, write_report_apart

BEGUN = 1_767_225_600.0  # 2026-01-01T00:00:00Z
HARM = "</script><script>window.harmed = 1</script><img src=x onerror=alert(1)>"
HOSTILE = HARM + "\x1b[31m\u202e\x00&amp;'\"{{ 7 * 7 }}"
SHOWN = HARM + "\\x1b[31m\\u202e\\x00&amp;'\"{{ 7 * 7 }}"


class Page(HTMLParser):
    """Elements with their attributes, the text that is shown, and what stands in scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text, self.scripts = "", []
        self._inside = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}))
        if tag in ("script", "style"):
            self._inside = tag
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif not self._inside:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_what_lies_in_the_current_folder_is_not_run(written_run, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    for module in ("html", "calendar", "profile"):
        (tmp_path / "here" / f"{module}.py").write_text("raise RuntimeError('it was run')")
    monkeypatch.chdir(tmp_path / "here")
    written_run.end()
    write_report_apart(written_run.folder.path)
    assert (written_run.folder.path / "report.html").exists()


def hostile_run(run):
    """Text of users that tries everything, wherever text of users goes."""
    record = json.loads(run.folder.run_json.read_bytes())
    record["name"] = HOSTILE
    record["arguments"] = ["--name", HOSTILE]
    record["settings"]["append_row_file_name"] = HOSTILE
    run.folder.write_record(record)
    error = AttemptError(HOSTILE, HOSTILE, f"Traceback\n{HOSTILE}", HOSTILE)
    for process in range(3):
        run.add(
            [run.attempt(3 * process + at, at, category=at, results=0 if at else 5, final=at != 1) for at in range(3)],
            process=process,
            errors={3 * process + at: error for at in (1, 2)},
            detail=HOSTILE.replace("{{ 7 * 7 }}", "{{{{ 7 * 7 }}}}"),
        )
    run.end("Failed", f"it was {HOSTILE}")
    return run


def test_hostile_text_is_shown_as_text(written_run):
    page = Page(write_report(hostile_run(written_run).folder.path))
    assert page.text.count(SHOWN) >= 10  # name, cause, errors, failed, slowest, settings
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", page.text)
    assert [one for one in page.scripts if "harmed" in one] == []
    assert not page.named("img")


def test_an_attempt_that_was_overtaken_has_not_failed(written_run):
    lost = written_run.attempt(7, category=Category.OVERTAKEN, results=0)._replace(final=0, items=0)
    written_run.add([lost, written_run.attempt(7)], errors={7: AttemptError("overtaken", "another was faster")})
    written_run.end("Completed")
    page = write_report(written_run.folder.path).read_text()
    assert "(1 overtaken by another one)" in page
    assert "failed for good." not in page
    assert "overtaken: another was faster" not in page


@pytest.mark.parametrize("category", sorted(set(Category) - {Category.SUCCEEDED, Category.OVERTAKEN}))
def test_every_cause_of_a_failure_is_shown_by_its_name(written_run, category):
    error = AttemptError("SomeError", "as it said")
    written_run.add([written_run.attempt(7, category=category, results=0, attempt=2)], errors={7: error})
    written_run.end("Failed")
    page = write_report(written_run.folder.path).read_text()
    cells = re.findall(
        r"<tr><td[^>]*>7</td><td[^>]*>2</td><td class=\"nowrap\">([^<]*)</td><td class=\"text\">([^<]*)</td>", page
    )
    assert (category.label, "SomeError: as it said") in cells


def test_lone_surrogates_are_written_as_text(written_run):
    written_run.add([written_run.attempt(0)], detail="\udc80.png")
    written_run.end()
    assert "\\udc80.png" in Page(write_report(written_run.folder.path)).text


def test_nothing_comes_from_elsewhere(written_run):
    page = Page(write_report(hostile_run(written_run).folder.path))
    for tag, attributes in page.elements:
        assert tag not in ("img", "iframe", "object", "embed", "form", "base", "audio", "video", "svg")
        assert "src" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "link":
            assert attributes["href"] == "data:,"
    assert "url(" not in (writing.__file__ and Path(writing.__file__).with_name("page.css").read_text())
    assert not [one for one in page.named("a") if re.match("[a-z]+:|//", one["href"])]


def test_only_its_own_scripts_may_run(written_run):
    page = Page(write_report(hostile_run(written_run).folder.path))
    [policy] = [one["content"] for one in page.named("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    own = [script for script in page.scripts if script and not script.startswith("{")]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in own]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    assert f"script-src {allowed};" in policy
    assert policy.startswith("default-src 'none';")


def test_links_lead_to_files(written_run, tmp_path):
    hostile_run(written_run)
    for process in range(3):
        written_run.tree.add_stream("stdout", 0, process, b"hello\n")
    folder = written_run.folder.path
    for path in (write_report(folder), write_report(folder, tmp_path / "a b" / "x.html")):
        links = [one["href"] for one in Page(path).named("a")]
        assert any("process001.stdout.txt" in link for link in links)
        for link in links:
            assert (path.parent / unquote(link)).is_file()


def test_counts_are_those_of_the_step_run(written_run):
    written_run.add([written_run.attempt(at, at) for at in range(1234)])
    written_run.end()
    page = Page(write_report(written_run.folder.path))
    assert "1,234" in page.text
    assert "Completed" in page.text
    assert re.search("Of 1,234 attempts that succeeded, half (6.9|7|7.1) ms", page.text)


def test_one_that_was_killed_has_a_report(written_run):
    written_run.add([written_run.attempt(0)])
    path = written_run.folder.logs / "sys/job_report/processed_mini-batches.csv"
    path.write_bytes(path.read_bytes()[:-5])
    page = Page(write_report(written_run.folder.path))
    assert "its driver was killed" in page.text
    assert f"prs-dask resume {written_run.folder.path}" in page.text


def test_one_that_has_not_begun_has_a_report(written_run):
    page = Page(write_report(written_run.folder.path))
    assert "score" in page.text
    assert "Where the time went" not in page.text


def test_nodes_are_drawn_before_the_first_attempt_has_ended(written_run):
    path = written_run.folder.logs / "perf" / "0" / "node_resource_usage.csv"
    path.parent.mkdir(parents=True)
    path.write_text("Utc Time,Cpu Percent\n2026-01-01T00:00:00Z,5\n2026-01-01T00:00:05Z,6\n")
    page = Page(write_report(written_run.folder.path))
    assert "node 0" in page.text
    assert {"class": "drawing", "id": "drawing-shares-0"} in page.named("div")


def test_gpus_are_drawn_by_the_names_that_their_columns_have(written_run):
    for second in range(3):
        sample = {"time": BEGUN + second, "source": "2a-7", "next": BEGUN + second + 1, "disks": [], "processes": []}
        sample |= {"node": [5.0] * 13, "gpus": [[71.25 + second, 2.0, 4.0, 50.0]], "ps": ""}
        written_run.tree.add_usage(0, json.dumps(sample).encode() + b"\n", BEGUN)
    page = Page(write_report(written_run.folder.path))
    figures = max((one for one in page.scripts if one.startswith('{"documents"')), key=len)
    for name in ("GPU 0 Percent", "GPU 0 Memory Used Percent"):
        assert name in page.text
        assert f'"{name}"' in figures
    assert len(gather(read_run(written_run.folder.path)).usage[0].shares["GPU 0 Percent"]) == 3


def test_a_resume_days_later_is_drawn_in_one_piece(written_run):
    written_run.add([written_run.attempt(0)])
    written_run.add([written_run.attempt(1, 7 * 86400.0)], process=1)
    written_run.end()
    assert "7 d 0 h are left out" in Page(write_report(written_run.folder.path)).text


def test_the_report_can_be_written_again_and_leaves_nothing_else(written_run):
    written_run.end()
    before = {path for path in written_run.folder.path.rglob("*")}
    assert write_report(written_run.folder.path) == write_report(written_run.folder.path) == written_run.folder.report
    assert {path for path in written_run.folder.path.rglob("*")} - before == {written_run.folder.report}


def test_what_is_no_run_folder_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="no such folder"):
        write_report(tmp_path / "none")


def test_a_file_that_cannot_be_written_is_told(written_run, tmp_path):
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(OutputError, match=r"folder\.html"):
        write_report(written_run.folder.path, tmp_path / "folder.html")
    assert not list(tmp_path.glob(".*.new"))


def test_without_the_extra_it_says_what_to_install(written_run, monkeypatch):
    monkeypatch.setenv(writing.SWITCH, "1")
    assert writing.writes_reports()
    monkeypatch.setattr(writing, "NEEDED", ("bokeh", "no_such_module"))
    assert not writing.writes_reports()
    with pytest.raises(SettingsError, match=r"no_such_module, not installed(.|\n)*prs-dask\[report\]"):
        write_report(written_run.folder.path)


def test_a_million_attempts_would_be_as_small(written_run):
    for process in range(70):
        written_run.add(
            [written_run.attempt(100 * process + at, at * 0.011 + process / 100) for at in range(100)], process=process
        )
    written_run.end()
    page = Page(write_report(written_run.folder.path))
    figures = max((one for one in page.scripts if one.startswith('{"documents"')), key=len)
    assert "64 of 70 processes" in page.text
    assert len(figures) < 1_000_000


def test_starts_failures_and_ends_of_processes_are_told(written_run):
    tree = written_run.tree
    for process in range(2):
        tree.add_process_event(ProcessEvent(BEGUN - 20, 0, process, "started", "10.0.0.1", 70 + process))
    tree.add_process_event(ProcessEvent(BEGUN - 1, 0, 0, "ready", seconds=17.5))
    tree.add_process_event(ProcessEvent(BEGUN - 1, 0, 1, "failed", why="ValueError: <b>no</b> model"))
    tree.add_process_event(
        ProcessEvent(BEGUN + 9, 0, 0, "ended", why="it was killed by SIGSEGV while run() was under way")
    )
    written_run.add([written_run.attempt(0)])
    written_run.end()
    page = Page(write_report(written_run.folder.path))
    for told in (
        "17.5 s",
        "could not start: ValueError: <b>no</b> model",
        "it was killed by SIGSEGV",
        "1 start failed. 1 ended early.",
        "A red mark",
    ):
        assert told in page.text
    contents = gather(read_run(written_run.folder.path))
    assert contents.lives == {(0, 0): (0.0, 19.0, 29.0, True), (0, 1): (0.0, 19.0, 19.0, True)}
    assert contents.attempts.timeline.seconds()[STARTING] == pytest.approx(38)


def test_a_long_start_is_no_time_in_which_nothing_ran(written_run):
    for part in (0.0, 7 * 86400.0):
        number = int(part > 0)
        written_run.tree.add_process_event(ProcessEvent(BEGUN + part, 0, number, "started"))
        written_run.tree.add_process_event(ProcessEvent(BEGUN + part + 1000, 0, number, "ready"))
        written_run.add([written_run.attempt(number, part + 1000)], process=number)
    written_run.end()
    contents = gather(read_run(written_run.folder.path))
    [fold] = contents.attempts.time.folds
    assert fold.start == pytest.approx(BEGUN + 1000.01)
    assert [life.ready - life.start for life in contents.lives.values()] == pytest.approx([1000, 1000])
