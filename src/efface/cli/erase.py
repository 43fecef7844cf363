"""``efface erase``: erase concepts from a model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from efface.core.concept import Concept

from .app import app
from .interruption import on_interrupt, same_command
from .model_options import POCKET, Model, model_options
from .options import Json, NewErasure, Overwrite, Preset, Seed, Settings
from .output import print_result
from .parsing import ConceptOptions, build_concepts, parse_settings
from .template_file import with_template_file

ConceptNames = Annotated[
    list[str] | None,
    typer.Argument(
        help="Concepts to erase: names (`efface concepts` lists the built-in ones) or YAML files (also LECO's)."
    ),
]
ConceptsFile = Annotated[
    Path | None,
    typer.Option(
        "--concepts", help="File with one concept per line, up to thousands, or YAML; all are erased together."
    ),
]
Synonyms = Annotated[list[str] | None, typer.Option("--synonym", help="Another word for the concept; repeat for more.")]
Anchor = Annotated[
    str | None,
    typer.Option(help='Concept to generate instead, as text; by default "", the empty prompt.'),
]
Kind = Annotated[str | None, typer.Option(help="Kind of concept: object (default), style, identity or domain.")]
RetainFile = Annotated[
    Path | None, typer.Option(help="Text file with one retain prompt per line; their images must not change.")
]
TemplateFile = Annotated[
    Path | None,
    typer.Option(
        help="Text file with one template per line, {} for the concept; they replace the bundled templates, "
        "for methods that train on templates (setting num_templates)."
    ),
]
ErasingMethod = Annotated[
    str | None,
    typer.Option(
        help="Name of the method (`efface methods` lists all); by default esd, for language models elm, for "
        "classifiers famr, for Janus-type models ear."
    ),
]
QuickClip = Annotated[
    str | None,
    typer.Option(
        "--clip",
        help="CLIP model that judges the quick check at the end, a folder or hub id; without it, a model other than "
        "pocket gets no quick check.",
    ),
]
QuickEvaluation = Annotated[bool, typer.Option(help="Evaluate the erasure on a few images at the end.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run from its last checkpoint.")]


@app.command()
@model_options("model")
def erase(
    out: NewErasure,
    concepts: ConceptNames = None,
    concepts_file: ConceptsFile = None,
    model: Model = POCKET,
    method: ErasingMethod = None,
    preset: Preset = None,
    synonym: Synonyms = None,
    anchor: Anchor = None,
    kind: Kind = None,
    retain_file: RetainFile = None,
    template_file: TemplateFile = None,
    settings: Settings = None,
    seed: Seed = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
    clip: QuickClip = None,
    quick_evaluation: QuickEvaluation = True,
    as_json: Json = False,
) -> None:
    """Erase concepts from a model and save the erasure as a folder; the model itself does not change."""
    from efface import api
    from efface.api.validation import default_method, validate_erase
    from efface.ops.training.progress import terminal_progress

    from .show import describe_erasure

    method = method or default_method(model)
    options = ConceptOptions(tuple(synonym or ()), anchor, kind, retain_file)
    described = build_concepts(concepts or [], concepts_file, options, model)
    targets, config = described.concepts, described.settings_for(method) | parse_settings(settings)
    task: dict[str, Any] = {"out": out, "model": model, "method": method, "preset": preset, "config": config}
    if template_file is not None:
        targets, task["config"] = with_template_file(targets, config, template_file, method)
    validate_erase(targets, **task, overwrite=overwrite, clip=clip)
    _announce_builtin(described.concepts)
    on_interrupt(lambda: _what_was_kept(out))
    task |= {"seed": seed, "resume": resume, "quick_evaluation": quick_evaluation, "progress": terminal_progress()}
    erasure = api.erase(targets, **task, overwrite=overwrite, clip=clip)
    print_result(describe_erasure(out, erasure), f"{method}: {dict(erasure.effect or {})['summary']}\n{out}", as_json)


def _what_was_kept(out: Path) -> str:
    """Describes the checkpoints of an interrupted run."""
    if any((out.parent / f".{out.name}.run").rglob("state.safetensors")):
        return f"the last checkpoint is kept; continue with\n  {same_command('--resume')}"
    return "nothing was saved yet"


def _announce_builtin(concepts: Sequence[Concept]) -> None:
    """Prints to standard error which concepts are built-in ones, with their fields."""
    from efface.core.builtin_concepts import is_builtin

    for concept in filter(is_builtin, concepts):
        synonyms = ", ".join(concept.synonyms) or "none"
        print(
            f"built-in concept {concept.name}: {concept.kind}; synonyms: {synonyms}; "
            f"{len(concept.retain_prompts)} retain prompts (`efface concepts show {concept.name!r}`)",
            file=sys.stderr,
        )
