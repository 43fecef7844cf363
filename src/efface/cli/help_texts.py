"""How ``--help`` groups the commands, and two examples of each."""

from __future__ import annotations

import typer
from typer.models import CommandInfo, TyperInfo

PANELS = {
    "Erase": ("erase", "coreferences", "revise", "gram", "demo"),
    "Measure": ("attack", "evaluate", "audit", "report", "compare", "sample", "serve"),
    "Use": ("show", "verify", "export", "transfer", "compose"),
    "Studies": ("sweep", "leaderboard", "reproduce", "ablate", "topology"),
    "Lists": ("methods", "attacks", "models", "benchmarks", "concepts"),
}
"""Panel of each command, in the order of ``efface --help``."""
EXAMPLES = {
    "erase": (
        "efface erase weapon --method uce --out weapon-erased/",
        'efface erase "van gogh" --kind style --model sd15/ --method esd --set steps=500 --out van-gogh-erased/',
    ),
    "coreferences": (
        "efface coreferences weapon --out weapon-words.yaml",
        "efface coreferences weapon --endpoint http://localhost:11434/v1 --language-model llama3 --out words.yaml",
    ),
    "revise": (
        "efface revise artists-erased/ --add monet --out more-artists-erased/",
        "efface revise artists-erased/ --drop monet --out fewer-artists-erased/",
    ),
    "gram": (
        "efface gram captions.txt --out captions-gram/",
        "efface gram captions.txt --model sd15/ --out captions-gram/",
    ),
    "demo": ("efface demo", "efface demo --out demo/ --no-open"),
    "attack": (
        "efface attack weapon-erased/ --attack synonyms",
        "efface attack weapon-erased/ --attack inside_out --set steps=50 --limit 48",
    ),
    "evaluate": (
        "efface evaluate weapon-erased/",
        "efface evaluate dog-erased/ --benchmark dog.yaml --limit 48",
    ),
    "audit": (
        "efface audit edited-sd15/ --base sd15/ --concept church",
        "efface audit weapon-lora.safetensors --base pocket --concept weapon --attack inside_out --limit 48",
    ),
    "report": ("efface report weapon-erased/ --open", "efface report weapon-uce/ weapon-esd/ --out weapon.html"),
    "compare": (
        'efface compare weapon-erased/ "a photo of a dagger" "a photo of a cat"',
        'efface compare weapon-erased/ "a weapon" -n 8 --out weapon.html',
    ),
    "sample": (
        'efface sample "a pencil sketch of a cat in the snow" -n 8 --out cats.png',
        'efface sample "a photo of a weapon" --erasure weapon-erased/ --seed 100',
    ),
    "serve": ("efface serve weapon-erased/ --open", "efface serve weapon-uce/ weapon-esd/ --port 8000"),
    "show": ("efface show weapon-erased/", "efface show weapon-erased/ --json"),
    "verify": ("efface verify weapon-erased/", "efface verify weapon-erased/ --json"),
    "export": (
        "efface export weapon-erased/ --format diffusers --out without-weapon/",
        "efface export weapon-erased/ --format kohya --out weapon-lora/",
    ),
    "transfer": (
        "efface transfer weapon-erased/ --to pocket-sibling --out weapon-erased-on-sibling/",
        "efface transfer weapon-erased/ --to other-sd15/ --allow-base-mismatch --out weapon-erased-on-other/",
    ),
    "compose": (
        "efface compose weapon-spm/ style-spm/ --out both-erased/",
        "efface compose weapon-uce/ style-sld/ santa-spm/ --out all-erased/ --overwrite",
    ),
    "sweep": (
        "efface sweep grid.yaml --out matrix/",
        "efface sweep grid.yaml --out matrix/ --ray local --workers 2",
    ),
    "leaderboard": ("efface leaderboard matrix/ --out site/ --open", "efface leaderboard matrix/results/*.json"),
    "reproduce": (
        "efface reproduce sage-i2p --help",
        "accelerate launch -m efface reproduce sage-i2p --help",
    ),
    "ablate": (
        "efface ablate sage --limit 48",
        'efface ablate elide --benchmark pocket-owl --only "no attack" --seeds 3',
    ),
    "topology": (
        "efface topology weapon-erased/",
        "efface topology weapon-erased/ --benchmark pocket-weapon --limit 48",
    ),
    "methods": ("efface methods", "efface methods show uce"),
    "attacks": ("efface attacks", "efface attacks show inside_out"),
    "models": ("efface models", "efface models --json"),
    "benchmarks": ("efface benchmarks show pocket-weapon", "efface benchmarks new dog --out dog.yaml"),
    "concepts": ("efface concepts", 'efface concepts show "van gogh"'),
}
"""Two examples of each command."""


def add_help_texts(app: typer.Typer) -> None:
    """Gives every command its panel and examples, in the order of `PANELS`."""
    panel_of = {name: panel for panel, names in PANELS.items() for name in names}
    order = list(panel_of)
    commands: list[CommandInfo | TyperInfo] = [*app.registered_commands, *app.registered_groups]
    for command in commands:
        name = command_name(command)
        command.rich_help_panel = panel_of[name]
        command.epilog = "\n\n".join(("Examples:", *EXAMPLES[name]))
    app.registered_commands.sort(key=lambda command: order.index(command_name(command)))
    app.registered_groups.sort(key=lambda group: order.index(command_name(group)))


def command_name(command: CommandInfo | TyperInfo) -> str:
    """Returns the name under which a command or group is called."""
    if command.name:
        return command.name
    assert isinstance(command, CommandInfo)
    assert command.callback is not None
    return command.callback.__name__.replace("_", "-")
