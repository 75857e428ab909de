"""The entry script's life, wherever it runs: load, ``init()``, ``run()``, ``shutdown()``.

``worker_process.main`` uses a host in a process of its own, ``run_locally`` and the debugger in the
user's: there `ScriptHost.unload` gives back what loading changed.

What the script finds (behaviour, section 2): the source folder first on ``sys.path``,
``sys.argv`` = script + arguments, its module registered under the script's stem. The current
folder is the process's own at the start and after that the script's business: an ``os.chdir()`` in
``init()`` still holds in ``run()``. Every path that the engine hands out is absolute.

Exceptions of user code pass through unchanged, whatever they are; `ScriptHost.user_code` is
what ``failures.describe`` wants to know.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from prs_dask.entry_script.context import MiniBatchContext
from prs_dask.entry_script.failures import UserCode
from prs_dask.entry_script.signature import check_callable, takes_context
from prs_dask.errors import EntryScriptError

__all__ = ["ScriptHost"]


class ScriptHost:
    """One entry script in this process.

    Parameters
    ----------
    script
        Path of the script; None where ``script_object`` is given.
    script_object
        An object with ``run`` and optional ``init`` and ``shutdown``, or the cloudpickle of one.
    source_folder
        First on ``sys.path``; None: nothing is added.
    arguments
        The script's own command line.

    Attributes
    ----------
    run_function
        The script's ``run``, once loaded.
    takes_context
        Whether it wants a `MiniBatchContext` as its second argument.
    user_code
        Which files are the user's.
    """

    def __init__(
        self,
        script: str | None = None,
        script_object: Any = None,
        source_folder: str | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self._script = script
        self._object = script_object
        self._source_folder = source_folder
        self._arguments = list(arguments)
        self._before: tuple[list[str], list[str], dict[str, ModuleType]] | None = None
        self._init: Callable[[], Any] | None = None
        self._shutdown: Callable[[], Any] | None = None
        self.run_function: Callable[..., Any] = _not_loaded
        self.takes_context = False
        self.user_code = UserCode(source_folder or "", (script,) if script else ())

    def load(self) -> None:
        """Import the script and find its functions.

        Raises
        ------
        EntryScriptError
            There is no ``run`` that could be called.
        BaseException
            Whatever the script raises while it is imported.
        """
        self._before = (sys.path[:], sys.argv[:], dict(sys.modules))
        if self._source_folder:
            sys.path.insert(0, self._source_folder)
        sys.argv[:] = [self._script or "entry_script", *self._arguments]
        owner = _import_script(self._script) if self._script else self._unpickled()
        name = os.path.basename(self._script) if self._script else f"the object of type {type(owner).__name__}"
        run = getattr(owner, "run", None)
        if run is None:
            raise EntryScriptError(
                f"run: {name} has none; allowed: a function run(mini_batch); found: {_defined(owner)}"
            )
        check_callable("run", run)
        self.takes_context = takes_context(run)
        self.run_function = run
        self._init = _optional(owner, "init")
        self._shutdown = _optional(owner, "shutdown")
        code = getattr(getattr(run, "__func__", run), "__code__", None)
        if code is not None and not self._script:
            self.user_code = self.user_code._replace(files=(code.co_filename,))

    def init(self) -> None:
        """Call the script's ``init()``, if it has one."""
        if self._init is not None:
            self._init()

    def run(self, mini_batch: Any, context: MiniBatchContext) -> Any:
        """Call the script's ``run()``; the result comes back as it is."""
        if self.takes_context:
            return self.run_function(mini_batch, context)
        return self.run_function(mini_batch)

    def shutdown(self) -> None:
        """Call the script's ``shutdown()``, if it has one and it was not called before."""
        shutdown, self._shutdown = self._shutdown, None
        if shutdown is not None:
            shutdown()

    def unload(self) -> None:
        """Give back ``sys.path``, ``sys.argv`` and the names of the script's modules.

        For processes that live on: a script that was changed is read anew by the next host.
        """
        if self._before is None:
            return
        sys.path[:], sys.argv[:], modules = self._before
        self._before = None
        for name, module in list(sys.modules.items()):
            # Modules without a file, or whose __file__ is no text, are nobody's.
            filename = getattr(module, "__file__", None)
            if isinstance(filename, str) and self.user_code.name_of(filename) and modules.get(name) is not module:
                if name in modules:
                    sys.modules[name] = modules[name]
                else:
                    del sys.modules[name]

    def _unpickled(self) -> Any:
        if not isinstance(self._object, bytes):
            return self._object
        import cloudpickle

        return cloudpickle.loads(self._object)


def _not_loaded(*_: Any) -> Any:
    raise EntryScriptError("run: the entry script has not been loaded")


def _import_script(script: str) -> ModuleType:
    from importlib.util import module_from_spec, spec_from_file_location

    name = os.path.splitext(os.path.basename(script))[0]
    spec = spec_from_file_location(name, script)
    if spec is None or spec.loader is None:
        raise EntryScriptError(f"entry_script: found {script!r}; allowed: a Python file, *.py")
    module = module_from_spec(spec)
    registered = sys.modules.get(name)
    # A script called types.py or queue.py must not take the place of what others have imported.
    if registered is None or getattr(registered, "__file__", None) == script:
        sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if sys.modules.get(name) is module:
            del sys.modules[name]
        raise
    return module


def _optional(owner: Any, name: str) -> Callable[[], Any] | None:
    function = getattr(owner, name, None)
    if function is not None:
        check_callable(name, function)
    return function


def _defined(owner: Any) -> str:
    names = [name for name in dir(owner) if not name.startswith("_") and callable(getattr(owner, name, None))]
    return ", ".join(names[:20]) or "no functions"
