"""The ``EntryScript`` singleton: what user code may ask about the process it lives in.

The worker process says once where it is (`configure`), before user code is loaded. Outside of
a job, in a notebook or a test of the user's, everything works too: records go to stderr, folders
are temporary and removed at exit.

``logging`` is imported when a logger is first asked for: a process whose script never logs is
ready without it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import logging

__all__ = ["LOGGER_NAME", "EntryScript", "Surroundings", "configure", "surroundings"]

LOGGER_NAME = "entry_script"


class Surroundings(NamedTuple):
    """Where a process of a step run is, as ``EntryScript`` tells it.

    Parameters
    ----------
    log_dir, output_dir, working_dir
        Absolute paths; the first two are made when the script first asks for them.
    log_file
        Where the records of ``EntryScript().logger`` go; empty for stderr.
    agent_name, node_id
        ``process000`` and the node's number.
    logging_level
        ``"WARNING"``, ``"INFO"`` or ``"DEBUG"``.
    logging_format
        Of ``log_file``: ``"text"`` or ``"json"``.
    arguments
        The script's own command line: ``sys.argv[1:]``.
    models
        What ``Model.get_model_path`` knows: name -> path.
    inputs
        ``Run.get_context().input_datasets``: name -> local path.
    metrics_file
        Where the offline ``Run`` puts its metrics; empty for nowhere.
    """

    log_dir: str
    output_dir: str
    working_dir: str
    log_file: str = ""
    agent_name: str = "process000"
    node_id: int = 0
    logging_level: str = "INFO"
    arguments: tuple[str, ...] = ()
    models: tuple[tuple[str, str], ...] = ()
    inputs: tuple[tuple[str, str], ...] = ()
    metrics_file: str = ""
    logging_format: str = "text"


_configured: Surroundings | None = None
_temporary: Surroundings | None = None


def configure(place: Surroundings | None) -> Surroundings | None:
    """Say where this process is; None: outside of a job again. Returns what was said before.

    Loggers that were handed out before follow.
    """
    global _configured
    before, _configured = _configured, place
    EntryScript._logger = None
    return before


def surroundings() -> Surroundings:
    """Where this process is; outside of a job a place with temporary folders."""
    return _configured or _outside_of_a_job()


def _outside_of_a_job() -> Surroundings:
    global _temporary
    if _temporary is None:
        import atexit
        import shutil
        import tempfile

        folder = tempfile.mkdtemp(prefix="prs-entry-script-")
        owner = os.getpid()

        def remove() -> None:
            if os.getpid() == owner:  # a forked child leaves what is its parent's
                shutil.rmtree(folder, ignore_errors=True)

        atexit.register(remove)
        _temporary = Surroundings(
            log_dir=os.path.join(folder, "logs"),
            output_dir=os.path.join(folder, "output"),
            working_dir=os.path.join(folder, "working"),
        )
    return _temporary._replace(arguments=tuple(sys.argv[1:]))


class EntryScript:
    """The entry script's view of its process; every call gives the same object.

    Works outside of a job too: it then logs to stderr and its folders are temporary.

    Examples
    --------
    >>> from prs_dask import EntryScript
    >>> EntryScript() is EntryScript()
    True
    >>> EntryScript().agent_name
    'process000'
    """

    _instance: EntryScript | None = None
    _logger: logging.Logger | None = None

    def __new__(cls, *_: object, **__: object) -> EntryScript:
        # Published scripts pass arguments here (``EntryScript(config)``): none has a meaning.
        if EntryScript._instance is None:
            EntryScript._instance = super().__new__(cls)
        return EntryScript._instance

    @property
    def logger(self) -> logging.Logger:
        """Logger whose records land in ``user/entry_script_log`` of the run folder."""
        if EntryScript._logger is None:
            from prs_dask.entry_script.log_handlers import entry_script_logger

            EntryScript._logger = entry_script_logger(LOGGER_NAME, _configured or Surroundings("", "", ""))
        return EntryScript._logger

    @property
    def log_dir(self) -> str:
        """Folder for the script's own log files, one for each process.

        They arrive in ``logs/user/entry_script_log/<node>/<process>/`` of the run folder, within seconds.
        """
        return _made(surroundings().log_dir)

    @property
    def output_dir(self) -> str:
        """Folder for what the script itself stores (``output_action="summary_only"``).

        The step's output folder where this node sees it. Else a folder of this process: what an attempt that succeeds
        has written into it arrives in the output under the same name, which no other process may use.
        """
        return _made(surroundings().output_dir)

    @property
    def working_dir(self) -> str:
        """The process's own folder, its current folder at start."""
        return _made(surroundings().working_dir)

    @property
    def agent_name(self) -> str:
        """``process000``, ``process001``, ...: unique on its node in a step run."""
        return surroundings().agent_name

    @property
    def node_id(self) -> int:
        """Number of the node, from 0 in order of arrival."""
        return surroundings().node_id

    @property
    def logging_level(self) -> str:
        """``"WARNING"``, ``"INFO"`` or ``"DEBUG"``."""
        return surroundings().logging_level

    @property
    def arguments(self) -> list[str]:
        """The script's own command line, without the script: ``sys.argv[1:]`` at start."""
        return list(surroundings().arguments)

    def __reduce__(self) -> tuple[type[EntryScript], tuple[()]]:
        return EntryScript, ()

    def __repr__(self) -> str:
        place = surroundings()
        return f"EntryScript({place.agent_name} on node {place.node_id})"


def _made(folder: str) -> str:
    os.makedirs(folder, exist_ok=True)
    return folder
