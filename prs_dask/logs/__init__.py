"""The run folder and its ``logs/`` tree, written by the driver only.

``tree``           one object with a method for each kind of news (behaviour, section 8)
``log_files``      appends and rewrites that never fail the job; few open files
``overview``       job_progress_overview.<yyyymmddhh>.txt
``attempt_table``  sys/job_report/processed_mini-batches.csv, in bulk
``error_groups``   user/error.txt and .json: every distinct error once
``source_lines``   the line of the user's code that an error names
``process_events`` sys/node/<node>/processes.csv: what became of worker processes
``process_lives``  a life for each of them, and sums for each node
``master_role``    sys/master_role.txt: the scheduler's side
``attempt_reader`` reads that table again
``summary``        what a step run has come to, as values and as text
``job_result``     job_result.txt and .json: how it ended
``resume_hint``    how to go on with it
``text``           control characters shown, times in UTC
``run_folder``     prs_runs/<step name>-<UTC time>-<short id>/

Nothing here imports Dask, pandas or output/.
"""
