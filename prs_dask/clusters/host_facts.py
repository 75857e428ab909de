"""What must be the same on every host. A program, too: its text is sent to a host's Python, which may be old.

So nothing of prs_dask is imported here, and nothing that Python 3.6 does not know is written.
"""

import os  # Python has imported it before this; all others are looked for
import sys

if __name__ == "__main__":
    sys.path = [folder for folder in sys.path if folder not in ("", os.getcwd())]  # modules of a home folder are none

import json
import platform

__all__ = ["MARK", "PACKAGES", "facts"]

MARK = "prs-dask"
"""The key of a line of JSON that is ours, among whatever a host's shell prints when somebody logs in."""

PACKAGES = ("prs-dask", "dask", "distributed", "cloudpickle", "msgpack", "numpy", "pandas")


def facts():
    # type: () -> dict[str, str | None]
    """What this Python is, and the versions of packages in it; None for one that is not there."""
    found = {"Python": platform.python_version(), "platform": platform.system()}  # type: dict[str, str | None]
    try:
        from importlib.metadata import PackageNotFoundError, version
    except ImportError:
        return found
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


if __name__ == "__main__":
    print(json.dumps({MARK: facts()}))
