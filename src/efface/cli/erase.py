"""``efface erase`` and ``efface show``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from efface.api.validation import validate_erase
from efface.core.builtin_concepts import get_builtin, is_builtin
from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.io import user_file_errors
from efface.models.loading import BUNDLED, ModelRef
from efface.ops.training.progress import RichProgress


def build_concept(
    given: str,
    synonyms: Sequence[str],
    anchor: str | None,
    kind: str | None,
    retain_file: Path | None,
    model: ModelRef | None = None,
) -> Concept:
    """The concept that the command line describes; a YAML file's fields are added to.

    A name alone is the concept of that name that ships, if there is one; not on an embedded model, which has benchmarks and a retain set of
    its own.
    """
    retain: tuple[str, ...] = ()
    if retain_file is not None:
        with user_file_errors(retain_file, "read"):
            lines = retain_file.read_text(encoding="utf-8").splitlines()
        retain = tuple(line.strip() for line in lines if line.strip())
    if given.endswith((".yaml", ".yml")):
        base = Concept.from_yaml(Path(given))
        return replace(
            base,
            synonyms=(*base.synonyms, *synonyms),
            anchor=anchor or base.anchor,
            retain_prompts=(*base.retain_prompts, *retain),
        )
    plain = not synonyms and anchor is None and kind is None and retain_file is None
    shipped = get_builtin(given) if plain and str(model) not in BUNDLED else None
    return shipped or Concept(
        given, kind=kind or "object", synonyms=tuple(synonyms), anchor=anchor or "", retain_prompts=retain
    )


def build_concepts(
    given: Sequence[str], listed: Path | None, synonyms: Sequence[str], anchor: str | None, kind: str | None, retain_file: Path | None,
    model: ModelRef | None,
) -> list[Concept]:  # fmt: skip
    """The concepts of the command line and those of a file, one a line; what must stay is held by the first, for all."""
    lines: list[str] = []
    if listed is not None:
        with user_file_errors(listed, "read"):
            lines = [line.strip() for line in listed.read_text(encoding="utf-8").splitlines()]
        if not any(lines):
            raise EffaceError(f"{listed} names no concept: write one a line")
        kind = kind or "object"  # a list's names are taken as they stand
    names = [*given, *(line for line in lines if line)]
    return [
        build_concept(name, synonyms, anchor, kind, None if i else retain_file, model) for i, name in enumerate(names)
    ]


def parse_settings(rows: Sequence[str]) -> dict[str, str]:
    """``name=value`` texts as a mapping."""
    settings = {}
    for row in rows:
        name, equals, value = row.partition("=")
        if not equals:
            raise EffaceError(f"--set {row!r} is not of the form name=value")
        settings[name.strip()] = value.strip()
    return settings


def run_erase(
    concepts: Sequence[Concept], *, out: Path, model: ModelRef, method: str, preset: str | None, config: dict[str, str],
    seed: int, resume: bool, overwrite: bool,
) -> tuple[dict[str, Any], str]:  # fmt: skip
    """Erase under a progress bar; returns the artifact's description and the effect check's line."""
    from efface import api

    validate_erase(concepts, out=out, model=model, method=method, preset=preset, config=config, overwrite=overwrite)
    for concept in concepts:
        if is_builtin(concept):
            said = f"{concept.kind}, {', '.join(concept.synonyms) or 'no other words'}, {len(concept.retain_prompts)} retain prompts"
            print(
                f"{concept.name} as efface ships it: {said} (`efface concepts show {concept.name!r}`)", file=sys.stderr
            )
    erasure = api.erase(
        list(concepts), out=out, model=model, method=method, preset=preset, config=config, seed=seed,
        resume=resume, overwrite=overwrite, progress=RichProgress(),
    )  # fmt: skip
    return describe(out)[0], f"{method}: {dict(erasure.effect or {})['verdict']}"


def run_revise(
    artifact: Path, *, out: Path, add: Sequence[str], drop: Sequence[str], model: ModelRef | None, overwrite: bool
) -> tuple[dict[str, Any], str]:
    """Revise under a progress bar; returns the new artifact's description and the effect check's line."""
    from efface import api

    more = [build_concept(name, (), None, "object", None) for name in add]
    erasure = api.revise(
        artifact, out=out, add=more, drop=drop, model=model, overwrite=overwrite, progress=RichProgress()
    )
    return describe(out)[0], f"{len(erasure.concepts)} concepts: {dict(erasure.effect or {})['verdict']}"


def run_gram(captions: Path, *, out: Path, model: ModelRef, batch: int, overwrite: bool) -> dict[str, Any]:
    """Reads captions line by line under a progress bar and saves their Gram."""
    from efface.api.validation import validate_output_dir
    from efface.models.loading import load_model

    with user_file_errors(captions, "read"), captions.open(encoding="utf-8") as file:
        total = sum(1 for line in file if line.strip())
    if out.exists() and not overwrite:
        validate_output_dir(out)
    loaded = load_model(model)
    from efface.ops.closed_form import GramAccumulator

    with user_file_errors(captions, "read"), captions.open(encoding="utf-8") as file:
        rows = (line.strip() for line in file if line.strip())
        made = GramAccumulator.of_captions(loaded, rows, batch=batch, progress=RichProgress(), total=total)
    made.save(out, overwrite)
    return {
        "folder": str(out),
        "captions": made.captions,
        "states": made.states,
        "width": len(made.matrix),
        "encoder": made.encoder,
    }


def describe(folder: Path) -> tuple[dict[str, Any], str]:
    """An erasure as plain data and as text."""
    erasure = Erasure.load(folder, check=False)
    spec = erasure.spec
    edits = [
        {"component": e.component, "op": e.op, "tensors": len(e.tensors), "params": dict(e.params)}
        for e in erasure.edits
    ]
    data = {
        "folder": str(folder), "method": spec.method, "preset": spec.preset, "model": spec.model, "seed": spec.seed,
        "concepts": [c.to_dict() for c in erasure.concepts], "config": dict(spec.config), "edits": edits, "run": spec.hash,
        "cost": None if erasure.cost is None else {"seconds": erasure.cost.seconds, "peak_memory_bytes": erasure.cost.peak_memory_bytes},
        "effect": None if erasure.effect is None else dict(erasure.effect), "versions": dict(erasure.versions),
    }  # fmt: skip
    lines = [
        f"{', '.join(c.name for c in erasure.concepts)}: {spec.method} ({spec.preset}) on {spec.model}, seed {spec.seed}"
    ]
    lines += [f"  {e['op']} of {e['component']}, {e['tensors']} tensors" for e in edits]
    if erasure.cost is not None:
        lines.append(f"  {erasure.cost.seconds:.1f} s")
    return data, "\n".join([*lines, f"  run {spec.short}"])
