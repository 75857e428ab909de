"""The engine: a step run over a Dask cluster. Read `step_run` first.

``step_run``          the driver's loop: plan, hand out, write, acknowledge
``submission``        mini-batches listed ahead of the driver, in a thread
``scheduler_plugin``  the judge's shell on the scheduler
``worker_plugin``     the supervisor's shell on each Dask worker, and the task that Dask runs
``lane``              one worker process, its frames, limits and reports
``run_settings``      what travels to scheduler and workers once
"""
