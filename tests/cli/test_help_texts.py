"""Help: every command is in a panel and has two examples whose options exist; listings show settings."""

from __future__ import annotations

import json
import shlex

import pytest
import typer.main
from helpers.cli import call, check_refused

from efface.cli.help_texts import EXAMPLES, PANELS
from efface.cli.main import app

GROUP = typer.main.get_command(app)


def test_every_command_is_in_one_panel_with_two_examples():
    panels = [name for names in PANELS.values() for name in names]
    assert sorted(panels) == sorted(GROUP.commands) == sorted(EXAMPLES)
    assert all(len(examples) == 2 for examples in EXAMPLES.values())


@pytest.mark.parametrize("example", [line for lines in EXAMPLES.values() for line in lines if "--help" not in line])
def test_every_example_parses(example):
    program, *words = shlex.split(example)
    assert program == "efface"
    command = GROUP
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    command.make_context("efface", words)


def test_help_shows_the_examples(capfd):
    assert "efface erase weapon --method uce --out weapon-erased/" in call(capfd, "erase", "--help").out


def test_a_method_is_shown_with_its_settings_and_presets(capfd):
    text = call(capfd, "methods", "show", "uce").out
    assert "  ridge = 0.5\n      Weight lambda of the weights' change. (0 to 50)" in text
    assert "  pocket: num_templates=66, preserve_scale=3.0, ridge=50.0" in text
    data = json.loads(call(capfd, "methods", "show", "uce", "--json").out)
    assert dict(list(data["settings"][7].items())[:3]) == {"name": "ridge", "type": "float", "default": 0.5}
    assert "settings" in call(capfd, "attacks", "show", "inside_out").out
    check_refused(call(capfd, "methods", "show", "uec"), "unknown method 'uec'", "did you mean 'uce'")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("lambda=3", ("unknown config field 'lambda'", "did you mean 'ridge'", "efface methods show uce")),
        ("ridge=-3", ("'ridge' is -3", "its range is 0 to 50")),
        ("weight=3", ("did you mean one of erase_scale, preserve_scale",)),
    ],
)
def test_a_setting_that_does_not_exist_or_fit(capfd, tmp_path, setting, words):
    check_refused(call(capfd, "erase", "gun", "--method", "uce", "--out", tmp_path / "e", "--set", setting), *words)
