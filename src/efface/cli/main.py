"""``efface``: one command a verb. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from efface import __version__
from efface.core.errors import EffaceError

app = typer.Typer(
    name="efface",
    help="Erase a concept from a generative model and prove that it is gone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"efface {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    pass


@app.command()
def sample(
    prompts: Annotated[list[str], typer.Argument(help='What to draw; "" draws without a prompt.')],
    n: Annotated[int, typer.Option("-n", min=1, help="Pictures for each prompt.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="The first picture's seed; the others follow.")] = 0,
    out: Annotated[Path, typer.Option(help="The grid, a PNG.")] = Path("sample.png"),
    model: Annotated[str, typer.Option(help='"pocket", or a folder in diffusers layout.')] = "pocket",
    steps: Annotated[int, typer.Option(min=1, max=1000, help="DDIM steps.")] = 20,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance scale; 1 is none.")] = 3.0,
    as_json: Json = False,
) -> None:
    """Draw pictures and save them as a labelled grid."""
    from .sample import draw_grid

    result = draw_grid(prompts, n=n, seed=seed, out=out, model=model, steps=steps, guidance=guidance)
    print(json.dumps(result) if as_json else f"{result['pictures']} pictures in {result['seconds']:.1f} s: {out}")


@app.command()
def models(as_json: Json = False) -> None:
    """List the embedded models."""
    from efface.models.load import EMBEDDED, embedded_folder

    rows = [{"name": name, "folder": str(embedded_folder(name))} for name in EMBEDDED]
    print(json.dumps(rows) if as_json else "\n".join(f"{row['name']}  {row['folder']}" for row in rows))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for what is drawn.")] = Path("efface-demo"),
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open the picture when done, where there is a screen.")] = True,
) -> None:
    """Draw what pocket knows, and let its judge say what it sees."""
    from .demo import run_demo

    path, line = run_demo(out)
    print(f"{line}\n{path}")
    if show:
        from .sample import open_file

        open_file(path)


def _one_line(message: Warning | str, *_rest: object, **_more: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


def main() -> None:
    """Run the command line: errors that a user can cure are one line on standard error, and exit code 2."""
    warnings.showwarning = _one_line
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    try:
        app()
    except EffaceError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"error: {error.strerror or error}: {error.filename or ''}".rstrip(": "), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
