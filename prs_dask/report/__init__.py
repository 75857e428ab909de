"""What a run folder tells afterwards, or meanwhile: files are all it knows of a step run, never the engine.

``run_reading``    read_run: state, counts and cause of a step run from its folder

Importing this package brings in no plotting library.
"""
