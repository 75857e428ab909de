"""Who fits, who is left out, and when that ends the step run."""

from __future__ import annotations

from prs_dask.attempts.fitting import PATIENCE_SECONDS, Fitting

LACKS = [("pandas", "1.5.3", ">=2"), ("torch", "not installed", "any version")]


def test_where_all_fit_nothing_is_told() -> None:
    fitting = Fitting(["a", "b"], None)
    fitting.fits("a", 0)
    fitting.fits("b", 1)
    assert fitting.decide(100.0) is None


def test_one_table_tells_of_all_that_were_there_from_the_beginning() -> None:
    fitting = Fitting(["a", "b", "c"], None)
    fitting.does_not_fit("a", "0 (h1)", LACKS, 1.0)
    fitting.fits("b", 1)
    assert fitting.decide(2.0) is None, "c has not told"
    fitting.does_not_fit("c", "2 (h3)", LACKS[:1], 3.0)
    told = fitting.decide(3.0)
    assert told is not None
    assert told.ends
    assert told.text.splitlines() == [
        "environment: 2 workers do not have what the step wants",
        "node    package  found          wanted",
        "0 (h1)  pandas   1.5.3          >=2",
        "0 (h1)  torch    not installed  any version",
        "2 (h3)  pandas   1.5.3          >=2",
        "install it there, or change environment=",
    ]
    assert fitting.decide(4.0) is None, "it is told once"


def test_one_that_hangs_or_goes_is_not_waited_for() -> None:
    for goes in (False, True):
        fitting = Fitting(["a", "b"], None)
        fitting.does_not_fit("a", "0", LACKS, 1.0)
        assert fitting.decide(1.0) is None
        if goes:
            fitting.left("b")
        told = fitting.decide(1.0 if goes else 1.0 + PATIENCE_SECONDS)
        assert told is not None
        assert told.ends


def test_who_comes_late_and_does_not_fit_is_left_out() -> None:
    fitting = Fitting(["a"], None)
    fitting.fits("a", 0)
    fitting.does_not_fit("late", "1", LACKS, 50.0)
    told = fitting.decide(50.0)
    assert told is not None
    assert not told.ends
    assert "1 worker does not have what the step wants" in told.text
    assert "left out" in told.text
    fitting.left("a")
    fitting.does_not_fit("later", "1", LACKS, 60.0)
    told = fitting.decide(60.0)
    assert told is not None
    assert not told.ends, "those that fit may come back"


def test_where_nobody_has_ever_fitted_it_ends() -> None:
    fitting = Fitting([], None)
    fitting.does_not_fit("first", "0", LACKS, 5.0)
    told = fitting.decide(5.0)
    assert told is not None
    assert told.ends


def test_nodes_beyond_node_count_need_not_fit() -> None:
    for count, ends in ((1, False), (2, True)):
        fitting = Fitting(["a", "b"], count)
        fitting.does_not_fit("a", "0", LACKS, 0.0)
        fitting.fits("b", 1)
        told = fitting.decide(0.0)
        assert told is not None
        assert told.ends is ends
