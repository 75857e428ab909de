"""The process that runs user code: ``processNNN``. No Dask here.

A supervisor (a lane of a Dask worker, see ``engine.lane``) starts it, hands it mini-batches in
frames and reads outcomes; what it is doing right now stands in a page of shared memory.

``frames``   what travels between the two, both directions
``phase``    the shared page: which mini-batch is in which phase since when
``main``     the process's life: load, init(), read + run() + rows for each mini-batch, shutdown()
"""
