"""Commands that look: what there is, and what an erasure is."""

from __future__ import annotations

import json
from dataclasses import asdict

from efface.core.errors import EffaceError
from efface.core.registry import Registry

from .app import Artifact, Json, app


def print_cards(registry: Registry, as_json: bool) -> None:
    """Name and summary of everything registered, or all facts as JSON."""
    cards = [registry.card(name) for name in registry.names()]
    print(
        json.dumps([asdict(card) for card in cards])
        if as_json
        else "\n".join(f"{card.name:18} {card.summary}" for card in cards)
    )


@app.command()
def attacks(as_json: Json = False) -> None:
    """List the attacks."""
    from efface.core.registry import ATTACKS

    print_cards(ATTACKS, as_json)


@app.command()
def benchmarks(as_json: Json = False) -> None:
    """List the benchmarks."""
    from efface.benchmarks.benchmark import Benchmark, names

    found = [Benchmark.load(name) for name in names()]
    rows = [
        {"name": b.name, "version": b.version, "description": b.description, "model": b.model, "concept": b.concept.name}
        for b in found
    ]
    print(
        json.dumps(rows)
        if as_json
        else "\n".join(f"{row['name']:20} {row['about']} (version {row['version']})" for row in rows)
    )


@app.command()
def methods(as_json: Json = False) -> None:
    """List the methods."""
    from efface.core.registry import METHODS

    print_cards(METHODS, as_json)


@app.command()
def show(artifact: Artifact, as_json: Json = False) -> None:
    """Say what an erasure is: method, concepts, edits, cost, effect check."""
    from .erase import describe

    data, text = describe(artifact)
    print(json.dumps(data) if as_json else text)


@app.command()
def verify(artifact: Artifact, as_json: Json = False) -> None:
    """Hash every file of an erasure again; exit code 2 when anything is not as it was written."""
    from efface.core.erasure import verify as check

    problems = check(artifact)
    rows = [{"file": p.file, "kind": p.kind, "text": p.text} for p in problems]
    print(
        json.dumps({"problems": rows})
        if as_json
        else "\n".join(str(p) for p in problems) or f"{artifact}: every file is as it was written"
    )
    if problems:
        whole = problems[0].kind == "manifest"  # nothing else could be compared
        raise EffaceError(
            problems[0].text if whole else f"{artifact} is not as it was written: {', '.join(p.file for p in problems)}"
        )


@app.command()
def models(as_json: Json = False) -> None:
    """List the embedded models."""
    from efface.models.loading import BUNDLED, bundled_folder

    rows = [{"name": name, "folder": str(bundled_folder(name))} for name in BUNDLED]
    print(json.dumps(rows) if as_json else "\n".join(f"{row['name']}  {row['folder']}" for row in rows))
