"""``efface erase`` and ``efface show``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.io import curable
from efface.models.load import ModelRef
from efface.ops.progress import RichProgress


def concept_of(given: str, synonyms: Sequence[str], anchor: str, kind: str, retain_file: Path | None) -> Concept:
    """The concept that the command line describes; a YAML file's fields are added to."""
    retain: tuple[str, ...] = ()
    if retain_file is not None:
        with curable(retain_file, "read"):
            lines = retain_file.read_text(encoding="utf-8").splitlines()
        retain = tuple(line.strip() for line in lines if line.strip())
    if given.endswith((".yaml", ".yml")):
        base = Concept.from_yaml(Path(given))
        return replace(base, synonyms=(*base.synonyms, *synonyms), anchor=anchor or base.anchor, retain=(*base.retain, *retain))
    return Concept(given, kind=kind, synonyms=tuple(synonyms), anchor=anchor, retain=retain)


def settings_of(rows: Sequence[str]) -> dict[str, str]:
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

    erasure = api.erase(
        list(concepts), out=out, model=model, method=method, preset=preset, config=config, seed=seed,
        resume=resume, overwrite=overwrite, progress=RichProgress(),
    )  # fmt: skip
    return describe(out)[0], f"{method}: {dict(erasure.effect or {})['verdict']}"


def describe(folder: Path) -> tuple[dict[str, Any], str]:
    """An erasure as plain data and as text."""
    erasure = Erasure.load(folder, check=False)
    spec = erasure.spec
    edits = [{"component": e.component, "op": e.op, "tensors": len(e.tensors), "params": dict(e.params)} for e in erasure.edits]
    data = {
        "folder": str(folder), "method": spec.method, "preset": spec.preset, "model": spec.model, "seed": spec.seed,
        "concepts": [c.to_dict() for c in erasure.concepts], "config": dict(spec.config), "edits": edits, "run": spec.hash,
        "cost": None if erasure.cost is None else {"seconds": erasure.cost.seconds, "peak_memory_bytes": erasure.cost.peak_memory_bytes},
        "effect": None if erasure.effect is None else dict(erasure.effect), "versions": dict(erasure.versions),
    }  # fmt: skip
    lines = [f"{', '.join(c.name for c in erasure.concepts)}: {spec.method} ({spec.preset}) on {spec.model}, seed {spec.seed}"]
    lines += [f"  {e['op']} of {e['component']}, {e['tensors']} tensors" for e in edits]
    if erasure.cost is not None:
        lines.append(f"  {erasure.cost.seconds:.1f} s")
    return data, "\n".join([*lines, f"  run {spec.short}"])
