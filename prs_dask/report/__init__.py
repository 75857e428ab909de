"""What a run folder tells afterwards, or meanwhile: files are all it knows of a step run, never the engine.

``run_reading``     read_run: state, counts and cause of a step run from its folder
``lately``          the newest lines of logs that grow: speed and time left
``writing``         write_report: a run folder becomes report.html
``contents``        what the report tells, gathered in one pass over the files
``attempt_blocks``  the table of attempts, block by block, as arrays
``folded_time``     time without stretches in which nothing ran
``timeline``        what each process did when
``lives``           when processes were started, were ready and ended
``resource_usage``  what nodes used
``profiles``        functions in which the time went
``figures``         Bokeh's
``words``           texts and tables
``links``           into the logs
``page``            all of it as one HTML file

Importing this package brings in no plotting library.
"""
