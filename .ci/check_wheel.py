"""What a wheel must hold, and what it must not: ``check_wheel.py FILE.whl``."""

import sys
import zipfile

NEEDED = {
    "prs_dask/__init__.py",
    "prs_dask/py.typed",
    "prs_dask/demo/entry_scripts/identify_digits.py",
    "prs_dask/demo/entry_scripts/score_wine.py",
    "prs_dask/report/page.css",
    "prs_dask/report/page.html.jinja",
    "prs_dask/report/page.js",
}


def faults(wheel: str) -> list[str]:
    names = zipfile.ZipFile(wheel).namelist()
    found = [f"missing: {name}" for name in sorted(NEEDED - set(names))]
    allowed = ("prs_dask/", "prs_dask-", "prs_dask.")
    found += [f"does not belong there: {name}" for name in names if not name.startswith(allowed) or "/tests/" in name]
    if not any(name.endswith("licenses/LICENSE") for name in names):
        found.append("missing: the licence")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(faults(sys.argv[1])) or None)
