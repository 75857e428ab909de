"""Flags of ``run`` and ``plan``: those of the table of settings, and those of the step.

Values stay texts here; the table says how each becomes a value, and checks it.
"""

from __future__ import annotations

import ast
import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from prs_dask.cli.input_description import INPUT_FORMATS
from prs_dask.config import SETTINGS, SHORT_CALL_DEFAULTS, Setting
from prs_dask.errors import Fault, SettingsError

__all__ = ["StepCommand", "as_flags", "setting_flag", "settings_from_flags", "step_flags"]

_SCRIPT_ARGUMENTS = "prs_dask.script_arguments"


class StepCommand(click.Command):
    """A command of which everything after ``--`` goes to the entry script."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            args, ctx.meta[_SCRIPT_ARGUMENTS] = args[:at], args[at + 1 :]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- SCRIPT ARGUMENTS]"]

    def invoke(self, ctx: click.Context) -> Any:
        ctx.params["script_arguments"] = tuple(ctx.meta.get(_SCRIPT_ARGUMENTS, ()))
        return super().invoke(ctx)


def step_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the optional STEP_FILE and every flag of a step to a command."""
    options: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
        click.argument("step_file", required=False, type=click.Path(exists=True, dir_okay=False)),
        click.option("--name", metavar="NAME", help="Name of the step. Default: from the entry script's name."),
        click.option(
            "--input",
            "inputs",
            multiple=True,
            metavar="PATH",
            help="File, folder or pattern to work on. May be given several times.",
        ),
        click.option(
            "--input-format",
            type=click.Choice(INPUT_FORMATS),
            help="What the inputs are. Default: files, each an item; in the others each row is one. With sql an input "
            "is a connection's URL.",
        ),
        click.option(
            "--input-option",
            "input_options",
            multiple=True,
            metavar="NAME=VALUE",
            help="Option of the inputs' datasets: separator, header, encoding, support_multi_line, include_path, "
            "dtype, partition_format, mode, include_hidden, query, ... May be given several times.",
        ),
        click.option(
            "--storage-option",
            "storage_options",
            multiple=True,
            metavar="NAME=VALUE",
            help="Option of the store of inputs and side inputs. Secrets come from the environment: "
            "'account_key=${env:SALES_KEY}'.",
        ),
        click.option("--output", metavar="FOLDER", help="Folder of the output file. Default: in the run folder."),
        click.option(
            "--side-input", "side_inputs", multiple=True, metavar="[NAME=]PATH", help="Given whole; a path or a URL."
        ),
        *(setting_flag(setting) for setting in SETTINGS.values() if setting.flag),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def setting_flag(
    setting: Setting, *, with_default: bool = True, hidden: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The flag of a setting that has one."""
    default = SHORT_CALL_DEFAULTS.get(setting.name, setting.default) if with_default else None
    text = f"{setting.help} Default: {default}." if isinstance(default, (str, int, float)) else setting.help
    return click.option(
        str(setting.flag),
        setting.name,
        multiple=setting.repeated,
        metavar=setting.metavar,
        help=text,
        hidden=hidden,
    )


def settings_from_flags(flags: Mapping[str, Any]) -> dict[str, object]:
    """The settings among a command's parameters, as values; those not given are left out.

    Raises
    ------
    SettingsError
        Where an environment variable that is to be passed on is not set.
    """
    settings: dict[str, object] = {}
    for name, setting in SETTINGS.items():
        given = flags.get(name)
        if given is None or given == ():
            continue
        if name == "environment_variables":
            settings[name] = _variables(given)
        elif setting.from_text:
            settings[name] = setting.from_text(given)
    return settings


def _variables(given: Sequence[str]) -> dict[str, str]:
    variables: dict[str, str] = {}
    faults = []
    for one in given:
        name, equals, value = one.partition("=")
        if not equals and name not in os.environ:
            allowed = "NAME=VALUE, or the NAME of a variable of this environment"
            faults.append(Fault("environment_variables", f"{name!r}, which is not set here", allowed))
        variables[name] = value if equals else os.environ.get(name, "")
    if faults:
        raise SettingsError(faults)
    return variables


def as_flags(error: SettingsError) -> SettingsError:
    """The same error in the words of somebody who wrote flags: ``--run-max-try 3``."""
    return type(error)([_as_flag(fault) for fault in error.faults])


def _as_flag(fault: Fault) -> Fault:
    setting = SETTINGS.get(fault.name)
    if setting is None or setting.flag is None:
        return fault
    example = fault.try_this
    if example == f"{setting.name}={setting.example}":
        example = f"{setting.flag} {_example(setting)}"
    return Fault(setting.flag, fault.found, fault.allowed, example)


def _example(setting: Setting) -> str:
    value = ast.literal_eval(setting.example)
    if setting.repeated:
        return " ".join(f"{name}={content}" for name, content in value.items())
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    if setting.name == "environment":
        return "requirements.yml"
    return shlex.quote(json.dumps(value) if isinstance(value, dict) else str(value))
