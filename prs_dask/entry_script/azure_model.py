"""``azureml.core.Model`` as far as entry scripts use it: a name becomes a path."""

from __future__ import annotations

import os
from typing import Any, NoReturn

from prs_dask.entry_script.entry_script import surroundings
from prs_dask.errors import EntryScriptError

__all__ = ["Model"]

_FOLDER = "AZUREML_MODEL_DIR"


class Model:
    """Models of the step run; only `get_model_path` works without Azure.

    Examples
    --------
    >>> from prs_dask.entry_script.azure_model import Model
    >>> Model.get_model_path("no-such-model")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
        ...
    prs_dask.errors.EntryScriptError: ...
    """

    def __init__(self, *_: Any, **__: Any) -> None:
        _refuse()

    @staticmethod
    def get_model_path(model_name: str, version: int | str | None = None, _workspace: object = None) -> str:
        """Local path of a model.

        Parameters
        ----------
        model_name
            A name of the step's ``models=``; else a file or folder in ``$AZUREML_MODEL_DIR``.
        version
            Where the folder of that model has subfolders by version: which; None: the highest.

        Raises
        ------
        EntryScriptError
            No such model; the message lists those that there are.
        """
        named = dict(surroundings().models)
        if model_name in named:
            return named[model_name]
        folder = os.environ.get(_FOLDER, "")
        path = os.path.join(folder, model_name)
        inside = bool(model_name) and model_name not in (".", "..") and os.sep not in model_name
        if folder and inside and os.path.exists(path):
            return _version(path, version)
        known = sorted({*named, *(_listed(folder) if folder else ())})
        allowed = ", ".join(known) or "none, as no models are known"
        raise EntryScriptError(
            f"Model.get_model_path: found {model_name!r}; allowed: {allowed}; "
            f"try: models={{{model_name!r}: <path>}} at the step, or ${_FOLDER} = the folder that holds it"
        )


def _refuse() -> NoReturn:
    raise EntryScriptError(
        "Model(...): found a model of a workspace, and this process has none; "
        "allowed: Model.get_model_path(name); or install azureml-core"
    )


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _version(path: str, version: int | str | None) -> str:
    """``path``, or its subfolder of a version where all it holds is such subfolders."""
    names = _listed(path)
    if not names or not all(name.isdecimal() for name in names):
        return path
    wanted = max(names, key=int) if version is None else str(version)
    if wanted not in names:
        found = ", ".join(sorted(names, key=int))
        raise EntryScriptError(f"Model.get_model_path: found version {wanted} of {path}; allowed: {found}")
    return os.path.join(path, wanted)
