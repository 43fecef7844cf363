"""Commands that work, one a verb."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from .app import Artifact, Json, app
from .model_options import POCKET, Base, Model, Target, model_options

DETECTOR = (
    "In place of the benchmark's: pocket-judge, imagenet:MODEL, zero-shot:CLIP, nudenet:COUNTING; @0.3 for a threshold."
)


@app.command()
@model_options("model")
def sample(
    prompts: Annotated[list[str], typer.Argument(help='What to draw; "" draws without a prompt.')],
    n: Annotated[int, typer.Option("-n", min=1, help="Images for each prompt.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="The first image's seed; the others follow.")] = 0,
    out: Annotated[Path, typer.Option(help="The grid, a PNG.")] = Path("sample.png"),
    model: Model = POCKET,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="DDIM steps.")] = 20,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance scale; 1 is none.")] = 3.0,
    as_json: Json = False,
) -> None:
    """Draw images and save them as a labelled grid."""
    from .sample import draw_grid

    result = draw_grid(prompts, n=n, seed=seed, out=out, model=model, steps=steps, guidance=guidance)
    print(json.dumps(result) if as_json else f"{result['images']} images in {result['seconds']:.1f} s: {out}")


@app.command()
@model_options("model")
def erase(
    out: Annotated[Path, typer.Option(help="Folder for the erasure.")],
    concepts: Annotated[
        list[str] | None,
        typer.Argument(help="What to erase: a name (`efface concepts` lists some), or a YAML file; several together."),
    ] = None,
    concept: Annotated[list[str] | None, typer.Option(help="The same as an option.")] = None,
    model: Model = POCKET,
    method: Annotated[str, typer.Option(help="The method; `efface methods` lists them.")] = "esd",
    preset: Annotated[
        str | None, typer.Option(help="One of the method's presets; by default the model's own, else paper.")
    ] = None,
    synonym: Annotated[list[str] | None, typer.Option(help="Another word for the concept; repeat for more.")] = None,
    anchor: Annotated[
        str | None, typer.Option(help='What to draw in its place; "", the default, is nothing in particular.')
    ] = None,
    kind: Annotated[str | None, typer.Option(help="object (the default), style, identity or domain.")] = None,
    retain_file: Annotated[Path | None, typer.Option(help="Prompts whose images must stay, one a line.")] = None,
    templates: Annotated[
        Path | None, typer.Option(help="Sentences with a {} for the concept, one a line, instead of SAGE's library.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A field of the method's configuration: lr=1e-4; repeat for more.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Root seed.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an erasure that is there.")] = False,
    listed: Annotated[
        Path | None, typer.Option("--concepts", help="A file with a concept a line: up to thousands, erased together.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Erase concepts from a model; the result is a folder that can be applied, verified and removed again."""
    from .erase import build_concepts, parse_settings, run_erase

    given = [*(concepts or []), *(concept or [])]
    wanted = build_concepts(given, listed, synonym or [], anchor, kind, retain_file, model)
    overrides = parse_settings(settings or []) | ({} if templates is None else {"templates": str(templates)})
    data, line = run_erase(
        wanted,
        out=out,
        model=model,
        method=method,
        preset=preset,
        config=overrides,
        seed=seed,
        resume=resume,
        overwrite=overwrite,
    )
    print(json.dumps(data) if as_json else f"{line}\n{out}")


@app.command()
@model_options("model")
def attack(
    artifact: Artifact,
    attack: Annotated[str, typer.Option(help="The attack; `efface attacks` lists them.")] = "synonyms",
    benchmark: Annotated[
        str | None, typer.Option(help="Where prompts and detector come from; by default the one that fits.")
    ] = None,
    part: Annotated[str, typer.Option(help="Part of the benchmark: test or dev.")] = "test",
    replay: Annotated[Path | None, typer.Option(help="An attack set found elsewhere, to try as it is.")] = None,
    model: Base = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A field of the attack's configuration: name=value.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Root seed.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many prompts.")] = None,
    detector: Annotated[str | None, typer.Option(help=DETECTOR)] = None,
    force: Annotated[bool, typer.Option("--force", help="The base model may be another one: a transfer.")] = False,
    as_json: Json = False,
) -> None:
    """Attack an erasure: search for prompts that bring the concept back, save them, and count how often they do."""
    from .evaluate import run_attack

    data, text = run_attack(
        artifact, attack, benchmark=benchmark, part=part, replay=replay, model=model, settings=settings or [], seed=seed, limit=limit,
        detector=detector, force=force,
    )  # fmt: skip
    print(json.dumps(data) if as_json else text)


@app.command()
@model_options("model")
def evaluate(
    artifact: Artifact,
    benchmark: Annotated[
        str | None, typer.Option(help="A name or YAML file; by default the one that fits the erasure.")
    ] = None,
    part: Annotated[str, typer.Option(help="test, or dev to choose hyper-parameters.")] = "test",
    seed: Annotated[int | None, typer.Option(min=0, help="The first image's seed; the part's own by default.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many images a group.")] = None,
    fid: Annotated[
        int | None, typer.Option(help="So many images of unrelated prompts for an FID, too: 2000 or more.")
    ] = None,
    detector: Annotated[str | None, typer.Option(help=DETECTOR)] = None,
    clip: Annotated[
        str | None, typer.Option(help="CLIP model of the CLIP score: a folder, a hub id, or pocket-clip.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Of FID and KID: Inception as .safetensors, or a network as .onnx.")
    ] = None,
    model: Base = None,
    force: Annotated[bool, typer.Option("--force", help="The base model may be another one: a transfer.")] = False,
    as_json: Json = False,
) -> None:
    """Evaluate an erasure: what is gone, what stayed, what the saved attacks bring back, and the verdict."""
    from .evaluate import run_evaluation

    looks = {"detector": detector, "clip": clip, "features": features}
    data, text = run_evaluation(
        artifact, benchmark, part=part, seed=seed, limit=limit, fid=fid, looks=looks, model=model, force=force
    )
    print(json.dumps(data) if as_json else text)


@app.command()
def report(
    artifact: Artifact,
    out: Annotated[
        Path | None, typer.Option(help="The HTML file; by default evidence/report.html in the erasure's folder.")
    ] = None,
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
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the erasure, its evidence and the report.")] = Path(
        "efface-demo"
    ),
    show: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the report when done, where there is a screen.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Erase "weapon" from pocket, attack and evaluate what is left, and write the report: two minutes on two cores."""
    from .demo import run_demo

    result, path = run_demo(out, lambda text: print(text, file=sys.stderr if as_json else sys.stdout, flush=True))
    print(json.dumps({"verdict": result.summary(), "report": str(path)}) if as_json else f"\nreport: {path.absolute()}")
    if show:
        from .sample import open_file

        open_file(path)


@app.command()
@model_options("to")
def apply(
    artifact: Artifact,
    to: Target,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the new erasure; by default the old one's name with the model's.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many images a group where a benchmark fits.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="What is edited may differ from what the erasure was made for.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an erasure that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Put an erasure onto another model that shares what it edits, without training, and evaluate it there."""
    from .evaluate import run_transfer

    data, text = run_transfer(artifact, to, out=out, limit=limit, force=force, overwrite=overwrite)
    print(json.dumps(data) if as_json else text)


@app.command()
@model_options("model")
def export(
    artifact: Artifact,
    out: Annotated[Path, typer.Option(help="Folder for the export.")],
    form: Annotated[str, typer.Option(help="diffusers, component, peft, kohya or single-file.")] = "diffusers",
    rank: Annotated[
        int | None, typer.Option(min=1, help="Of the LoRA, for an erasure that replaces matrices: peft and kohya.")
    ] = None,
    model: Base = None,
    force: Annotated[bool, typer.Option("--force", help="The base model may be another one: a transfer.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Export an erasure for other programs: a diffusers folder, the edited components, a LoRA, or one file for ComfyUI and A1111."""
    from .export import run_export

    data, text = run_export(artifact, out, form, rank=rank, model=model, force=force, overwrite=overwrite)
    print(json.dumps(data) if as_json else text)
