"""Whatever happens between the parts of a step run, each file is in one mini-batch, and no id changes its meaning."""

from __future__ import annotations

import os
import tempfile
import time
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from prs_dask import FileDataset, ResumeError, TabularDataset
from prs_dask.datasets.kept_reader import kept_reader
from prs_dask.mini_batches.json_form import from_line
from prs_dask.output.manifest import ManifestWriter, read_manifest, read_members
from prs_dask.pipeline.earlier_inputs import EarlierInputs

LONG_AGO = time.time() - 3600
BATCH = 2


class Resumes(RuleBasedStateMachine):
    """Drivers that list some of two inputs and are killed, in the middle of a write too; and files that come and go."""

    @initialize(kind=st.sampled_from(["files", "table"]), count=st.integers(1, 12))
    def begin(self, kind: str, count: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.table = kind == "table"
        self.path = Path(self.folder.name) / "inputs.jsonl.gz"
        self.ended: set[int] = set()
        self.known: dict[int, Any] = {}
        for number in range(count):
            self.write(number % 2, f"{number * 10:03d}")
        self.write(1, "500")
        make = TabularDataset.from_delimited_files if self.table else FileDataset.from_files
        self.inputs = [make(Path(self.folder.name) / name) for name in "ab"]
        ManifestWriter.create(self.path, {"inputs": [kept_reader(one.reader()) for one in self.inputs]}).close()

    def write(self, index: int, name: str) -> None:
        path = Path(self.folder.name) / "ab"[index] / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("n\n" + "".join(f"{row}\n" for row in range(int(name) % 7 + 1)))
        os.utime(path, (LONG_AGO, LONG_AGO))

    def files(self) -> list[str]:
        return sorted(str(path) for path in Path(self.folder.name).glob("[ab]/*"))

    def held(self) -> list[Any]:
        return [from_line(line) for member in read_members(self.path) for line in member.lines]

    @rule(most=st.none() | st.integers(0, 12), torn=st.integers(0, 60))
    def a_part(self, most: int | None, torn: int) -> None:
        """A driver lists some, or all; then what was not committed may be torn off."""
        earlier = EarlierInputs(self.path, self.inputs, 3, self.ended.__contains__)
        earlier.compare(accept_changes=True)
        writer = ManifestWriter.reopen(self.path, earlier.state)
        safe, listed = self.path.stat().st_size, 0
        listing = islice(earlier.mini_batches(), most)
        while some := list(islice(listing, BATCH)):
            assert all((one is None) == (number in self.ended) for number, one in enumerate(some, listed))
            writer.append(listed, some, time.time() + 0.1)
            listed += len(some)
        if most is None:
            writer.end()
        writer.close()
        if most is not None:
            os.truncate(self.path, max(safe, self.path.stat().st_size - torn))
        else:
            self.check_all()

    def check_all(self) -> None:
        """The listing has come to its end: each file is there once, each row of a table too."""
        if self.table:
            ranges: dict[str, list[tuple[int, int]]] = {}
            for one in self.held():
                ranges.setdefault(one.path, []).append((one.start, one.stop))
            assert set(self.files()) <= set(ranges)
            for path, some in ranges.items():
                assert some[0][0] == 2
                assert all(before[1] == after[0] for before, after in pairwise(some))
                if path in self.files():
                    assert some[-1][1] == os.path.getsize(path)
        else:
            paths = [path for one in self.held() for path in one.paths]
            assert len(paths) == len(set(paths))
            assert set(self.files()) <= set(paths)

    @rule(index=st.integers(0, 1), number=st.integers(0, 499))
    def a_file_comes(self, index: int, number: int) -> None:
        if f"{'ab'[index]}/{number:03d}" not in {path[-5:] for one in self.held() for path in paths_of(one)}:
            self.write(index, f"{number:03d}")

    @precondition(lambda self: self.held())
    @rule(data=st.data())
    def some_are_finished(self, data: Any) -> None:
        count = read_manifest(self.path).count
        self.ended |= data.draw(st.sets(st.integers(0, count - 1)))

    @precondition(lambda self: self.held())
    @rule(data=st.data())
    def a_file_goes(self, data: Any) -> None:
        """Refused as long as it is wanted; it goes for good where it is not."""
        name = data.draw(st.sampled_from(sorted({path for one in self.held() for path in paths_of(one)})))
        path = Path(name)
        if not path.exists() or path.name == "500":
            return
        text = path.read_text()
        path.unlink()
        earlier = EarlierInputs(self.path, self.inputs, 3, self.ended.__contains__)
        wanted = any(name in paths_of(one) and number not in self.ended for number, one in enumerate(self.held()))
        last = self.held()[-1]
        wanted = wanted or (self.table and not earlier.state.complete and name in paths_of(last))
        if not wanted:
            earlier.compare(accept_changes=True)
        else:
            with pytest.raises(ResumeError, match="removed"):
                earlier.compare(accept_changes=True)
            path.write_text(text)
            os.utime(path, (LONG_AGO, LONG_AGO))
            self.ended -= {number for number, one in enumerate(self.held()) if name in paths_of(one)}

    @invariant()
    def ids_keep_their_meaning(self) -> None:
        if not hasattr(self, "path"):
            return
        now = dict(enumerate(self.held()))
        for number in self.ended:
            assert number in now
            assert self.known.setdefault(number, now[number]) == now[number]

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


def paths_of(mini_batch: Any) -> tuple[str, ...]:
    return mini_batch.paths if hasattr(mini_batch, "paths") else (mini_batch.path,)


TestResumes = Resumes.TestCase
TestResumes.settings = settings(max_examples=30, stateful_step_count=12, suppress_health_check=list(HealthCheck))
