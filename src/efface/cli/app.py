"""The application that every command registers with. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from efface import __version__
from efface.core.errors import EffaceError
from efface.distributed import env


class Group(TyperGroup):
    """All commands; Ctrl-C in one of them is said in one line (typer's own answer differs by version)."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(130) from stop


app = typer.Typer(
    name="efface",
    cls=Group,
    help="Erase a concept from a generative model and prove that it is gone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
SHARED = ("evaluate", "attack", "reproduce")
"""The commands that several processes share out."""
Artifact = Annotated[Path, typer.Argument(help="An erasure's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"efface {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if env.world_size() > 1 and ctx.invoked_subcommand not in SHARED:
        raise EffaceError(
            f"`efface {ctx.invoked_subcommand}` works in one process: start it without a launcher ({', '.join(SHARED)} share out)"
        )
