"""The application that every command registers with. It imports nothing heavy, so that ``--help`` is fast."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from efface import __version__
from efface.core.errors import EffaceError
from efface.distributed import env

from .interruption import begin, interruption


class CommandGroup(TyperGroup):
    """All commands; Ctrl-C prints what was kept (typer's own message differs by version)."""

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> Any:
        """Remember the arguments, which the message after Ctrl-C repeats."""
        begin(args)
        return super().make_context(info_name, args, *more, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            print(interruption(), file=sys.stderr)
            raise typer.Exit(130) from stop


app = typer.Typer(
    name="efface",
    cls=CommandGroup,
    help="Erase a concept from a generative model and prove that it is gone.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
DISTRIBUTED_COMMANDS = ("evaluate", "attack", "reproduce")
"""Commands that several processes can run together."""


def _print_version(requested: bool) -> None:
    if requested:
        print(f"efface {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if env.world_size() > 1 and ctx.invoked_subcommand not in DISTRIBUTED_COMMANDS:
        raise EffaceError(
            f"`efface {ctx.invoked_subcommand}` runs in one process: start it without a launcher "
            f"({', '.join(DISTRIBUTED_COMMANDS)} run in several)"
        )
