"""``azureml_user`` and ``azureml.core`` for entry scripts that import them (behaviour, section 10.4).

A finder at the *end* of ``sys.meta_path`` makes these modules where nobody else has them, each for
itself: a really installed package always wins, and one that is installed in parts
(``azureml`` without ``azureml.core``) is completed. No file of these names exists.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["install", "uninstall"]


def _fill_parallel_run(module: ModuleType) -> None:
    from prs_dask.entry_script.entry_script import EntryScript

    module.__dict__["EntryScript"] = EntryScript


def _fill_model(module: ModuleType) -> None:
    from prs_dask.entry_script.azure_model import Model

    module.__dict__["Model"] = Model


def _fill_run(module: ModuleType) -> None:
    from prs_dask.entry_script.azure_run import Run

    module.__dict__["Run"] = Run


def _fill_core(module: ModuleType) -> None:
    _fill_model(module)
    _fill_run(module)


def _fill_nothing(_: ModuleType) -> None:
    pass


_MODULES: dict[str, Callable[[ModuleType], None]] = {
    "azureml_user": _fill_nothing,
    "azureml_user.parallel_run": _fill_parallel_run,
    "azureml": _fill_nothing,
    "azureml.core": _fill_core,
    "azureml.core.model": _fill_model,
    "azureml.core.run": _fill_run,
}


class _StandIns:
    """Finder and loader of the modules above."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _MODULES:
            return None
        # With a search path of its own, even an empty one, a module may have submodules.
        return ModuleSpec(name, self, origin="prs_dask", is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        _MODULES[module.__name__](module)


_FINDER = _StandIns()


def install() -> bool:
    """Let ``import azureml_user`` and ``import azureml.core`` work in this process; False where they did already."""
    if _FINDER in sys.meta_path:
        return False
    sys.meta_path.append(_FINDER)
    return True


def uninstall() -> None:
    """Take the finder and the modules it made away again."""
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)
    for name in _MODULES:
        if getattr(getattr(sys.modules.get(name), "__spec__", None), "loader", None) is _FINDER:
            del sys.modules[name]
