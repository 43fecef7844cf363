"""``efface methods``, ``attacks`` and ``models``: the names that other commands accept."""

from __future__ import annotations

from dataclasses import asdict

from efface.core.registry import Registry

from .app import app
from .options import Json
from .output import print_result


def print_cards(registry: Registry, as_json: bool) -> None:
    """Prints name and summary of all registered objects, or their complete cards as JSON."""
    cards = [registry.card(name) for name in registry.names()]
    text = "\n".join(f"{card.name:18} {card.summary}" for card in cards)
    print_result([asdict(card) for card in cards], text, as_json)


@app.command()
def methods(as_json: Json = False) -> None:
    """List the methods."""
    from efface.core.registry import METHODS

    print_cards(METHODS, as_json)


@app.command()
def attacks(as_json: Json = False) -> None:
    """List the attacks."""
    from efface.core.registry import ATTACKS

    print_cards(ATTACKS, as_json)


@app.command()
def models(as_json: Json = False) -> None:
    """List the bundled models."""
    from efface.models.model_ref import BUNDLED, bundled_folder

    rows = [{"name": name, "folder": str(bundled_folder(name))} for name in BUNDLED]
    print_result(rows, "\n".join(f"{row['name']:16} {row['folder']}" for row in rows), as_json)
