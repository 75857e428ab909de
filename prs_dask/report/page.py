"""The report as one HTML page: words, figures, scripts and styles, all within it, and nothing from elsewhere.

Every text is escaped by Jinja, its control characters shown; none stands in a script but as JSON with ``<`` escaped.
The page allows no request, and no script but its own, by hash (Content-Security-Policy).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from bokeh.document import Document
from bokeh.resources import Resources
from jinja2 import Environment
from markupsafe import Markup

from prs_dask.logs.text import plain

__all__ = ["page"]


def page(words: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """The page.

    Parameters
    ----------
    words
        What the template says, see `prs_dask.report.words`.
    figures
        Bokeh's models by the id of the element in which they are drawn.
    """
    here = files("prs_dask.report")
    bokeh = Resources(mode="inline", components=["bokeh"], log_level="warn").js_raw
    scripts = [*bokeh, (here / "page.js").read_text("utf-8")]
    scripts = [script.replace("\r\n", "\n").replace("</script", "<\\/script") for script in scripts]
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_shown)
    return environment.from_string((here / "page.html.jinja").read_text("utf-8")).render(
        **words,
        figures=figures,
        policy=_policy(scripts),
        style=Markup((here / "page.css").read_text("utf-8")),  # noqa: S704
        scripts=[Markup(script) for script in scripts],  # noqa: S704
        content=Markup(_json(_drawn(figures))),  # noqa: S704
    )


def _shown(value: object) -> object:
    """Control characters, direction marks and lone surrogates as escapes."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _drawn(figures: Mapping[str, Any]) -> dict[str, Any]:
    """All figures as one document of Bokeh, so that those over time move together."""
    document = Document()
    with document.models.freeze():  # else all models are gathered anew for each root
        for model in figures.values():
            document.add_root(model)
    roots = {model.id: f"drawing-{name}" for name, model in figures.items()}
    item = {"docid": "report", "roots": roots, "root_ids": list(roots)}
    return {"documents": {"report": document.to_json(deferred=False)}, "items": [item] if roots else []}


def _json(content: object) -> str:
    """JSON that can stand in a page: no ``<`` ends the element, no ``&`` starts a reference."""
    text = json.dumps(content, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(scripts: list[str]) -> str:
    hashes = [base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii") for script in scripts]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; font-src data:"
