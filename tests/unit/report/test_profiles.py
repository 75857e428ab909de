"""Profiles of several processes, some of them torn."""

import cProfile
import marshal

from prs_dask.report.profiles import top_functions


def slow(count):
    return sum(number * number for number in range(count))


def profile(path, count):
    profiler = cProfile.Profile()
    profiler.runcall(slow, count)
    profiler.dump_stats(path)
    return path


def test_functions_of_all_processes_are_added(tmp_path):
    paths = [profile(tmp_path / f"process{number:03d}.profile", 1000 * number) for number in (1, 2)]
    functions, count = top_functions(paths)
    assert count == 2
    [found] = [function for function in functions if function.name == "slow"]
    assert (found.calls, found.place.rpartition("/")[2].split(":")[0]) == (2, "test_profiles.py")
    assert 0 <= found.own <= found.total
    assert [function.own for function in functions] == sorted((function.own for function in functions), reverse=True)


def test_torn_and_foreign_files_are_left_out(tmp_path):
    whole = profile(tmp_path / "a.profile", 100)
    (tmp_path / "b.profile").write_bytes(whole.read_bytes()[:-20])
    (tmp_path / "c.profile").write_bytes(b"no profile")
    (tmp_path / "d.profile").write_bytes(marshal.dumps([1, 2]))
    (tmp_path / "e.profile").write_bytes(b"")
    (tmp_path / "f.profile").write_bytes(marshal.dumps({"a": 1}))
    functions, count = top_functions(sorted(tmp_path.glob("*.profile")))
    assert count == 1
    assert any(function.name == "slow" for function in functions)
    assert top_functions([tmp_path / "none.profile"]) == ([], 0)
