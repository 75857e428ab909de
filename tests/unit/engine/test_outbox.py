"""What a lane reports leaves the outbox whole, and once."""

from hypothesis import given
from hypothesis import strategies as st

from prs_dask.attempts.records import AttemptError, AttemptRecord, Category, unpack
from prs_dask.engine.outbox import Outbox


def record(mini_batch: int, category: int = 0, length: int = 0) -> AttemptRecord:
    return AttemptRecord(mini_batch, 1, category, 1, 2, 2, length, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_an_empty_outbox_is_false_and_reports_nothing():
    outbox = Outbox()
    assert not outbox
    report = outbox.take()
    assert (report["records"], report["rows"]) == (b"", b"")
    assert not {"errors", "pieces", "pieced", "headers", "back"} & report.keys()


def test_a_header_alone_waits_for_the_attempt_it_belongs_to():
    outbox = Outbox()
    outbox.headers.append((1, b"a b\n"))
    assert not outbox


def test_what_was_given_back_is_something_to_report():
    outbox = Outbox()
    outbox.back.append(7)
    assert outbox
    assert outbox.take()["back"] == [7]
    assert not outbox


def test_the_token_stays_when_the_rest_is_taken():
    outbox = Outbox(token=4)
    outbox.add(record(1, length=2), b"a\n")
    outbox.take()
    assert outbox.token == 4


def test_size_counts_rows_pieces_and_tracebacks_and_starts_anew():
    outbox = Outbox()
    outbox.add(record(1, length=2), b"a\n")
    outbox.add_piece(2, b"xyz")
    outbox.fail(record(3, Category.EXCEPTION), AttemptError("E", "m", "12345"))
    assert outbox.size == 10
    outbox.take()
    assert outbox.size == 0


@given(st.lists(st.tuples(st.sampled_from(["add", "fail", "piece", "take"]), st.binary(max_size=20))))
def test_all_that_is_put_in_comes_out_once_and_in_order(steps):
    outbox = Outbox()
    put: dict[str, list] = {"records": [], "rows": [], "errors": [], "pieces": []}
    reports = []
    for number, (step, data) in enumerate(steps):
        if step == "add":
            outbox.add(record(number, length=len(data)), data)
            put["records"].append(number)
            put["rows"].append(data)
        elif step == "fail":
            outbox.fail(record(number, Category.EXCEPTION), AttemptError("E", data.hex()))
            put["records"].append(number)
            put["errors"].append((number, data.hex()))
        elif step == "piece":
            outbox.add_piece(number, data)
            put["pieces"].append((number, data))
        else:
            reports.append(outbox.take())
    reports.append(outbox.take())
    assert not outbox
    assert [each.mini_batch for report in reports for each in unpack(report["records"])] == put["records"]
    assert b"".join(report["rows"] for report in reports) == b"".join(put["rows"])
    errors = [(number, fields[1]) for report in reports for number, fields in report.get("errors", ())]
    assert errors == put["errors"]
    assert [piece for report in reports for piece in report.get("pieces", ())] == put["pieces"]


def test_what_came_with_files_goes_back_and_the_rest_stays_with_its_rows():
    outbox = Outbox()
    outbox.add(record(1, length=2), b"1\n")
    outbox.add_file(2, b"file")
    outbox.add_piece(2, b"22")
    outbox.pieced.append((2, 2))
    outbox.headers.append((2, b"a b\n"))
    outbox.filed.append(2)
    outbox.add(record(2, length=4), b"2\n")
    outbox.fail(record(3, Category.EXCEPTION), AttemptError("ValueError", "no"))
    outbox.add(record(4, length=2), b"4\n")
    outbox.add_file(5, b"of one that has not ended")
    outbox.give_back_filed()
    report = outbox.take()
    assert [one.mini_batch for one in unpack(report["records"])] == [1, 3, 4]
    assert (report["rows"], report["back"]) == (b"1\n4\n", [2])
    assert not {"files", "pieces", "pieced", "filed", "headers"} & report.keys()
