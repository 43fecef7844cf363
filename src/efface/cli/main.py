"""``efface``: one command a verb. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import json
import os
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from efface import __version__
from efface.core.errors import EffaceError

if TYPE_CHECKING:
    from efface.core.registry import Registry


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
Artifact = Annotated[Path, typer.Argument(help="An erasure's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def print_cards(registry: Registry, as_json: bool) -> None:
    """Name and summary of everything registered, or all facts as JSON."""
    cards = [registry.card(name) for name in registry.names()]
    print(json.dumps([asdict(card) for card in cards]) if as_json else "\n".join(f"{card.name:18} {card.summary}" for card in cards))


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
def erase(
    out: Annotated[Path, typer.Option(help="Folder for the erasure.")],
    concepts: Annotated[
        list[str] | None, typer.Argument(help="What to erase: a name, or a YAML file that describes it; several are erased together.")
    ] = None,
    concept: Annotated[list[str] | None, typer.Option(help="The same as an option.")] = None,
    model: Annotated[str, typer.Option(help='"pocket", or a folder in diffusers layout.')] = "pocket",
    method: Annotated[str, typer.Option(help="The method; `efface methods` lists them.")] = "esd",
    preset: Annotated[str | None, typer.Option(help="One of the method's presets; by default the model's own, else paper.")] = None,
    synonym: Annotated[list[str] | None, typer.Option(help="Another word for the concept; repeat for more.")] = None,
    anchor: Annotated[str, typer.Option(help='What to draw in its place; "" is nothing in particular.')] = "",
    kind: Annotated[str, typer.Option(help="object, style, identity or domain.")] = "object",
    retain_file: Annotated[Path | None, typer.Option(help="Prompts whose pictures must stay, one a line.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A field of the method's configuration: lr=1e-4; repeat for more.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Root seed.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an erasure that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Erase concepts from a model; the result is a folder that can be applied, verified and removed again."""
    from .erase import concept_of, run_erase, settings_of

    wanted = [concept_of(c, synonym or [], anchor, kind, retain_file) for c in [*(concepts or []), *(concept or [])]]
    overrides = settings_of(settings or [])
    data, line = run_erase(
        wanted, out=out, model=model, method=method, preset=preset, config=overrides, seed=seed, resume=resume, overwrite=overwrite
    )
    print(json.dumps(data) if as_json else f"{line}\n{out}")


@app.command()
def attack(
    artifact: Artifact,
    attack: Annotated[str, typer.Option(help="The attack; `efface attacks` lists them.")] = "synonyms",
    benchmark: Annotated[str | None, typer.Option(help="Where prompts and detector come from; by default the one that fits.")] = None,
    part: Annotated[str, typer.Option(help="Part of the benchmark: test or dev.")] = "test",
    replay: Annotated[Path | None, typer.Option(help="An attack set found elsewhere, to try as it is.")] = None,
    model: Annotated[str | None, typer.Option(help="The base model; by default the erasure's own.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A field of the attack's configuration: name=value.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Root seed.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many prompts.")] = None,
    force: Annotated[bool, typer.Option("--force", help="The base model may be another one: a transfer.")] = False,
    as_json: Json = False,
) -> None:
    """Attack an erasure: search for prompts that bring the concept back, save them, and count how often they do."""
    from .evidence import run_attack

    data, text = run_attack(
        artifact, attack, benchmark=benchmark, part=part, replay=replay, model=model, settings=settings or [], seed=seed, limit=limit,
        force=force,
    )  # fmt: skip
    print(json.dumps(data) if as_json else text)


@app.command()
def evaluate(
    artifact: Artifact,
    benchmark: Annotated[str | None, typer.Option(help="A name or YAML file; by default the one that fits the erasure.")] = None,
    part: Annotated[str, typer.Option(help="test, or dev to choose hyper-parameters.")] = "test",
    seed: Annotated[int | None, typer.Option(min=0, help="The first picture's seed; the part's own by default.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many pictures a group.")] = None,
    model: Annotated[str | None, typer.Option(help="The base model; by default the erasure's own.")] = None,
    force: Annotated[bool, typer.Option("--force", help="The base model may be another one: a transfer.")] = False,
    as_json: Json = False,
) -> None:
    """Evaluate an erasure: what is gone, what stayed, what the saved attacks bring back, and the verdict."""
    from .evidence import run_evaluation

    data, text = run_evaluation(artifact, benchmark, part=part, seed=seed, limit=limit, model=model, force=force)
    print(json.dumps(data) if as_json else text)


@app.command()
def report(
    artifact: Artifact,
    out: Annotated[Path | None, typer.Option(help="The HTML file; by default evidence/report.html in the erasure's folder.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Write one HTML file with everything that is known of an erasure; it works offline."""
    from efface.api import report as write

    path = write(artifact, out)
    print(json.dumps({"report": str(path)}) if as_json else path)
    if show:
        from .sample import open_file

        open_file(path)


@app.command()
def attacks(as_json: Json = False) -> None:
    """List the attacks."""
    from efface.api import ATTACKS

    print_cards(ATTACKS, as_json)


@app.command()
def benchmarks(as_json: Json = False) -> None:
    """List the benchmarks."""
    from efface.benchmarks.protocol import Benchmark, names

    found = [Benchmark.load(name) for name in names()]
    rows = [{"name": b.name, "version": b.version, "about": b.about, "model": b.model, "concept": b.concept.name} for b in found]
    print(json.dumps(rows) if as_json else "\n".join(f"{row['name']:20} {row['about']} (version {row['version']})" for row in rows))


@app.command()
def methods(as_json: Json = False) -> None:
    """List the methods."""
    from efface.api import METHODS

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
        json.dumps({"problems": rows}) if as_json else "\n".join(str(p) for p in problems) or f"{artifact}: every file is as it was written"
    )
    if problems:
        whole = problems[0].kind == "manifest"  # nothing else could be compared
        raise EffaceError(problems[0].text if whole else f"{artifact} is not as it was written: {', '.join(p.file for p in problems)}")


@app.command()
def models(as_json: Json = False) -> None:
    """List the embedded models."""
    from efface.models.load import EMBEDDED, embedded_folder

    rows = [{"name": name, "folder": str(embedded_folder(name))} for name in EMBEDDED]
    print(json.dumps(rows) if as_json else "\n".join(f"{row['name']}  {row['folder']}" for row in rows))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the erasure, its evidence and the report.")] = Path("efface-demo"),
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open the report when done, where there is a screen.")] = True,
    as_json: Json = False,
) -> None:
    """Erase "weapon" from pocket, attack and evaluate what is left, and write the report: two minutes on two cores."""
    from .demo import run_demo

    result, path = run_demo(out, lambda text: print(text, file=sys.stderr if as_json else sys.stdout, flush=True))
    print(json.dumps({"verdict": result.one_line(), "report": str(path)}) if as_json else f"\nreport: {path.absolute()}")
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
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # there is one bar a command, and it is ours
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
