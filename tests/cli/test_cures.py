"""Messages and help texts name options and commands that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

import efface
from efface.cli.main import app

SOURCES = sorted(Path(efface.__file__).parent.rglob("*.py"))
OF_OTHER_PROGRAMS = {"--head"}
"""Options of programs that messages tell the user to start, such as `ray start --head`."""


def _commands(group: Any) -> Iterator[Any]:
    for command in group.commands.values():
        yield command
        yield from _commands(command) if hasattr(command, "commands") else ()


def test_every_option_that_the_code_names_exists():
    group: Any = typer.main.get_command(app)
    known = {"--help", "--version", "--install-completion", "--show-completion", *OF_OTHER_PROGRAMS}
    for command in [group, *_commands(group)]:
        for parameter in command.params:
            known |= {*parameter.opts, *parameter.secondary_opts}
    named = {
        (match, path.name)
        for path in SOURCES
        for match in re.findall(r"[\"'`( ](--[a-z][a-z-]+[a-z])\b", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 100
    assert {(option, file) for option, file in named if option not in known} == set()


def test_every_command_that_the_code_names_exists():
    group: Any = typer.main.get_command(app)
    named = {
        (match, path.name)
        for path in SOURCES
        for match in re.findall(r"(?<!\"\")[\"'`]efface ([a-z]+)\b", path.read_text(encoding="utf-8"))
    }
    assert len({command for command, _ in named}) > 10
    assert {(command, file) for command, file in named if command not in group.commands} == set()
