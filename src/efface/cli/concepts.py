"""``efface concepts``: the built-in concepts."""

from __future__ import annotations

from typing import Annotated

import typer

from .app import app
from .options import Json
from .output import print_result

concepts = typer.Typer(help="List the built-in concepts; `efface concepts show NAME` prints one as YAML.")
app.add_typer(concepts, name="concepts")


@concepts.callback(invoke_without_command=True)
def _list(context: typer.Context, as_json: Json = False) -> None:
    if context.invoked_subcommand is not None:
        return
    from efface.core.builtin_concepts import get_entry, names

    entries = [get_entry(name) for name in names()]
    rows = [
        {
            "name": entry.name,
            "kind": entry.concept.kind,
            "version": entry.version,
            "source": entry.source,
            "template": entry.template,
        }
        for entry in entries
    ]
    lines = [f"{row['name']:20} {row['kind']:9} {row['source']} (version {row['version']})" for row in rows]
    print_result(rows, "\n".join(lines), as_json)


@concepts.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of a built-in concept; `efface concepts` lists all.")],
    as_json: Json = False,
) -> None:
    """Print a built-in concept as YAML, a file to edit and to erase."""
    from efface.core.builtin_concepts import get_entry

    entry = get_entry(name)
    data = {
        "name": entry.name,
        "version": entry.version,
        "source": entry.source,
        "concept": entry.concept.to_dict(),
    }
    print_result(data, entry.to_yaml().rstrip(), as_json)
