"""The life of mini-batches as pure decisions: no Dask, clock, file or log here.

``lifecycle``  the transition table of one mini-batch
``records``    what one attempt was: its category, counts and times, and their packed form
``judge``      all mini-batches under way: what may run next, what counts, when to abort
"""
