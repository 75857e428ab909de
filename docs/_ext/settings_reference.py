"""The directive ``settings``: the reference of all settings, from the table that also checks them."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from prs_dask.config import SETTINGS, SHORT_CALL_DEFAULTS, Setting
from prs_dask.config.settings import REQUIRED


def facts(setting: Setting) -> list[tuple[str, str, bool]]:
    """(name, text, is it code) of each fact of a setting."""
    required = setting.default is REQUIRED
    found = [
        ("Default", "none: it must be given" if required else repr(setting.default), not required),
        ("Allowed", setting.allowed, False),
        ("Example", f"{setting.name}={setting.example}", True),
    ]
    if setting.name in SHORT_CALL_DEFAULTS:
        default = repr(SHORT_CALL_DEFAULTS[setting.name])
        found.insert(1, ("Default of parallel_run and prs-dask run", default, True))
    if setting.flag:
        found.append(("Command line", f"{setting.flag} {setting.metavar}", True))
    if setting.may_be_parameter:
        found.append(("PipelineParameter", "may stand for it", False))
    if setting.same_on_resume:
        found.append(("Resume", "has to be the same", False))
    if setting.secret:
        found.append(("Secret", "its values are never shown or written", False))
    return found


def entry(setting: Setting) -> nodes.definition_list_item:
    """One setting: its name, what it does, and its facts."""
    fields = nodes.field_list()
    for name, text, is_code in facts(setting):
        inline = nodes.literal(text, text) if is_code else nodes.Text(text)
        fields += nodes.field("", nodes.field_name("", name), nodes.field_body("", nodes.paragraph("", "", inline)))
    term = nodes.term("", "", nodes.literal(setting.name, setting.name), ids=[f"setting-{setting.name}"])
    return nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph("", setting.help), fields))


class SettingsDirective(SphinxDirective):
    """All settings, in the order of the table."""

    def run(self) -> list[nodes.Node]:
        return [nodes.definition_list("", *(entry(setting) for setting in SETTINGS.values()))]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("settings", SettingsDirective)
    return {"parallel_read_safe": True}
