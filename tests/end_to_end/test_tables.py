"""Whole jobs over tables: every row of a good file once, whatever lies beside it."""

from __future__ import annotations

from prs_dask import TabularDataset

ROWS = "def run(frame): return frame.astype(str).agg(','.join, axis=1).tolist()\n"


def test_records_as_lines_with_a_quoted_line_break_end_the_step_run_and_name_the_place(job, tmp_path):
    table = tmp_path / "table.csv"
    table.write_bytes(b"a,b\n" + b"1,x\n" * 5000 + b'2,"x\ny"\n' + b"3,x\n" * 5000)
    dataset = TabularDataset.from_delimited_files(table, support_multi_line=False)
    done = job(ROWS, 0, inputs=dataset, mini_batch_size=1000, error_threshold=-1)
    assert done.state == "Failed"
    assert "table.csv, line 5002, byte 20006" in done.run.error
    assert 'support_multi_line="auto"' in done.run.error
    assert not done.run.output_file.exists()
    assert done.categories()["unsafe cut"] >= 1
