"""RESULT: what ``run()`` returned becomes rows, the rows one file, and the journal says what is in it.

The way of a row::

    rows          worker process: a result -> bytes (row_format: how)
    piece_store   driver: rows of a huge mini-batch wait for their last piece
    committer     driver: append all rows -> fsync -> order records -> journal line -> fsync
      append_file     the one file, ``<name>.partial`` until the end
      order_file      where each mini-batch lies in it, for ``append_row_order="input"``
      journal         what is finished, on disk (id_ranges: ids as ``0-99,105``)

Nothing here imports Dask, pandas or logs/; pandas is used where the result already is one of its tables.
"""
