"""The counts of the node's cache."""

from prs_dask.stores.ledger import Ledger
from prs_dask.stores.range_locks import RangeLocks


def test_what_is_counted_stands_there_at_once_for_all(tmp_path):
    with RangeLocks(str(tmp_path / "locks")) as own:
        with Ledger(tmp_path, 100).open(own) as counts:
            counts.add(30)
        with Ledger(tmp_path, 999).open(own) as counts:
            assert (counts.used, counts.bound) == (30, 100)
            counts.add(-50)
        with Ledger(tmp_path, None).open(own) as counts:
            assert counts.used == 0


def test_one_counts_at_a_time(tmp_path):
    with RangeLocks(str(tmp_path / "locks")) as own, RangeLocks(str(tmp_path / "locks")) as other:
        with Ledger(tmp_path, 100).open(own):
            assert not other.take("ledger")
        assert other.take("ledger")
