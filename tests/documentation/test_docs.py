"""What the docs say is drawn from the code, or compared with it."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import prs_dask
from prs_dask.attempts.lifecycle import TRANSITIONS
from prs_dask.config import SETTINGS

DOCS = Path(__file__).parents[2] / "docs"
WORDS = (
    "dataset", "item", "mini-batch", "chunk", "attempt", "outcome", "row", "output", "entry script", "step", "step run",
    "pipeline", "pipeline run", "node", "worker", "worker process", "lane", "compute target", "run folder",
)  # fmt: skip


def extension(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / "_ext" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_the_picture_has_an_arrow_for_each_transition_and_no_other():
    arrows = set(re.findall(r'data-from="(\w+)" data-to="(\w+)"', extension("lifecycle_diagram").svg()))
    assert arrows == {
        (state.name, after.name) for state, row in TRANSITIONS.items() for after in row.values() if after != state
    }


def test_the_picture_names_every_event():
    labels = set(re.findall(r"<tspan[^>]*>([^<]+)<", extension("lifecycle_diagram").svg()))
    assert labels == {
        event.name.lower().replace("_", " ")
        for state, row in TRANSITIONS.items()
        for event, after in row.items()
        if after != state
    }


@pytest.mark.parametrize("name", SETTINGS)
def test_the_reference_tells_what_a_setting_does_and_allows(name):
    text = extension("settings_reference").entry(SETTINGS[name]).astext()
    assert text.startswith(name)
    assert SETTINGS[name].help in text
    assert SETTINGS[name].allowed in text


@pytest.mark.parametrize("name", [name for name in prs_dask.__all__ if name != "__version__"])
def test_every_public_name_is_in_the_reference(name):
    assert re.search(rf"^\.\. auto\w+:: prs_dask\.{name}$", (DOCS / "reference" / "api.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("word", WORDS)
def test_the_glossary_has_every_word(word):
    assert f"\n{word}\n  " in (DOCS / "explanation" / "glossary.md").read_text()


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_is_in_one_of_the_four_kinds(page):
    assert page.relative_to(DOCS).parts[0] in ("tutorial", "how-to", "reference", "explanation", "index.md")
