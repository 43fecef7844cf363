"""``efface concepts``: the concepts that ship."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from .app import Json, app

concepts = typer.Typer(help="The concepts that ship; `efface concepts show NAME` prints one as YAML to copy.")
app.add_typer(concepts, name="concepts")


@concepts.callback(invoke_without_command=True)
def _list(context: typer.Context, as_json: Json = False) -> None:
    if context.invoked_subcommand is not None:
        return
    from efface.core.builtin_concepts import get_entry, names

    found = [get_entry(name) for name in names()]
    rows: list[dict[str, Any]] = [
        {"name": e.name, "kind": e.concept.kind, "version": e.version, "source": e.source, "template": e.template}
        for e in found
    ]
    print(
        json.dumps(rows)
        if as_json
        else "\n".join(f"{r['name']:20} {r['kind']:9} {r['source']} (version {r['version']})" for r in rows)
    )


@concepts.command()
def show(
    name: Annotated[str, typer.Argument(help="One of `efface concepts`.")],
    as_json: Json = False,
) -> None:
    """Print a concept that ships as YAML: redirect it into a file, change it, and erase the file."""
    from efface.core.builtin_concepts import get_entry

    found = get_entry(name)
    data = {"name": found.name, "version": found.version, "source": found.source, "concept": found.concept.to_dict()}
    print(json.dumps(data) if as_json else found.to_yaml().rstrip())
