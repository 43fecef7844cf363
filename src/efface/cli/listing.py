"""``efface methods``, ``attacks`` and ``models``: the names that other commands accept, and ``show`` for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer

from efface.core.costs import pocket_costs
from efface.core.durations import rounded_duration
from efface.core.method_card import MethodCard
from efface.core.registry import ATTACKS, METHODS, Registry

from .app import app
from .options import Json
from .output import print_result

methods = typer.Typer(help="List the methods; `efface methods show NAME` prints a method's settings and presets.")
attacks = typer.Typer(help="List the attacks; `efface attacks show NAME` prints an attack's settings and presets.")
app.add_typer(methods, name="methods")
app.add_typer(attacks, name="attacks")
Name = Annotated[str, typer.Argument(help="Name in the list.", metavar="NAME")]


def _add_commands(group: typer.Typer, registry: Registry, row: Callable[[MethodCard], str]) -> None:
    """Adds the list and ``show`` to a group."""

    @group.callback(invoke_without_command=True)
    def _list(context: typer.Context, as_json: Json = False) -> None:
        if context.invoked_subcommand is None:
            cards = [registry.card(name) for name in registry.names()]
            print_result(
                [{**asdict(card), "kinds": card.kinds} for card in cards],
                "\n".join(row(card) for card in cards),
                as_json,
            )

    @group.command("show")
    def _show(name: Name, as_json: Json = False) -> None:
        """Print what it changes, the models it takes, its settings with their defaults, and its presets."""
        card = registry.card(name)
        data = {
            **asdict(card),
            "pocket_seconds": pocket_costs().get(name),
            "settings": [asdict(setting) for setting in registry.settings(name)],
            "presets": registry.presets(name),
        }
        print_result(data, describe(card, registry), as_json)


def method_row(card: MethodCard) -> str:
    """Returns a method's two lines in the list."""
    kind = "training" if card.needs_gradient else "no training"
    cost = pocket_costs().get(card.name)
    time = "not measured" if cost is None else f"{rounded_duration(cost)} on pocket"
    facts = f"{card.trains or 'no weight, at sampling time'}; {kind}, {time}; {', '.join(card.families)}"
    kinds = ", ".join(card.kinds)
    return f"{card.name:18} {kinds:18} {card.summary}\n{'':37} changes {facts}"


def attack_row(card: MethodCard) -> str:
    """Returns an attack's line in the list."""
    return f"{card.name:18} {', '.join(card.kinds):34} {card.summary}"


def describe(card: MethodCard, registry: Registry) -> str:
    """Returns the text of ``show``: the card, every setting with its default, and what each preset changes."""
    source = f"{card.paper}{f' (arXiv {card.arxiv})' if card.arxiv else ''}"
    lines = [f"{card.title}: {card.summary}", source]
    lines += [f"changes: {card.trains}"] if card.trains else []
    cost = pocket_costs().get(card.name)
    lines += [f"cost: {rounded_duration(cost)} on pocket, on one core"] if cost is not None else []
    lines += [f"models: {', '.join(card.families)}", "", "settings (--set NAME=VALUE):"]
    for setting in registry.settings(card.name):
        values = f" ({setting.range})" if setting.range else ""
        lines.append(f"  {setting.name} = {_text(setting.default)}")
        lines.append(f"      {setting.help}{values}")
    lines += ["", "presets (--preset NAME):"]
    for name, changes in registry.presets(card.name).items():
        changed = ", ".join(f"{key}={_text(value)}" for key, value in changes.items())
        lines.append(f"  {name}: {changed or 'the defaults above'}")
    return "\n".join(lines)


def _text(value: Any) -> str:
    """Returns a value as ``--set`` accepts it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ",".join(map(str, value)) or '""'
    return '""' if value == "" else str(value)


_add_commands(methods, METHODS, method_row)
_add_commands(attacks, ATTACKS, attack_row)


@app.command()
def models(as_json: Json = False) -> None:
    """List the bundled models with their kind, size and what they know."""
    from efface.models.bundled import bundled_models

    rows = [asdict(model) for model in bundled_models()]
    text = "\n".join(f"{r['name']:18} {r['kind']:17} {r['bytes'] / 1e6:5.1f} MB  {r['knows']}" for r in rows)
    print_result(rows, text, as_json)
