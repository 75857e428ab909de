"""ATTEMPT: the user's code, inside the process that runs it. No Dask here.

``host``          loads the script and calls its ``init()``, ``run()``, ``shutdown()``
``signature``     does ``run`` take a ``mini_batch_context``?
``context``       that second parameter
``entry_script``  the ``EntryScript`` singleton that user code asks for loggers and folders
``log_handlers``  where the user's log records go
``failures``      what went wrong in user code, as bounded text
``azure_names``   ``azureml_user`` and ``azureml.core`` for scripts that import them
                  (``azure_model``, ``azure_run``: what they find there)

A worker process imports this before it is ready: nothing here imports more than it must at its top.
"""

from prs_dask.entry_script.context import MiniBatchContext
from prs_dask.entry_script.entry_script import EntryScript
from prs_dask.entry_script.host import ScriptHost

__all__ = ["EntryScript", "MiniBatchContext", "ScriptHost"]
