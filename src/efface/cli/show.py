"""``efface show`` and ``efface verify``: the content and the integrity of an erasure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.errors import EffaceError

from .app import app
from .options import Artifact, Json
from .output import print_result

if TYPE_CHECKING:
    from efface.core.erasure import Erasure


@app.command()
def show(artifact: Artifact, as_json: Json = False) -> None:
    """Show an erasure's method, concepts, edits, cost and effect check."""
    data, text = describe_erasure(artifact)
    print_result(data, text, as_json)


@app.command()
def verify(artifact: Artifact, as_json: Json = False) -> None:
    """Check every file of an erasure against its hash; exit with code 2 if one was changed."""
    from efface.core.erasure import verify as verify_files

    problems = verify_files(artifact)
    rows = [{"file": problem.file, "kind": problem.kind, "message": problem.message} for problem in problems]
    text = "\n".join(str(problem) for problem in problems) or f"{artifact}: all files are unchanged"
    print_result({"problems": rows}, text, as_json)
    if not problems:
        return
    if problems[0].kind == "manifest":  # no other file could be compared
        raise EffaceError(problems[0].message)
    changed = ", ".join(problem.file for problem in problems)
    raise EffaceError(f"{artifact} was changed after it was written ({changed}): restore the files, or erase again")


def describe_erasure(folder: Path) -> tuple[dict[str, Any], str]:
    """Describes the erasure in a folder as JSON values and as text."""
    from efface.core.erasure import Erasure

    erasure = Erasure.load(folder, check=False)
    return _as_data(erasure, folder), _as_text(erasure)


def _as_data(erasure: Erasure, folder: Path) -> dict[str, Any]:
    spec, cost = erasure.spec, erasure.cost
    edits = [
        {"component": edit.component, "op": edit.op, "tensors": len(edit.tensors), "params": dict(edit.params)}
        for edit in erasure.edits
    ]
    return {
        "folder": str(folder),
        "method": spec.method,
        "preset": spec.preset,
        "model": spec.model,
        "seed": spec.seed,
        "concepts": [concept.to_dict() for concept in erasure.concepts],
        "config": dict(spec.config),
        "edits": edits,
        "erasure_hash": spec.hash,
        "cost": cost and {"seconds": cost.seconds, "peak_memory_bytes": cost.peak_memory_bytes},
        "effect": None if erasure.effect is None else dict(erasure.effect),
        "versions": dict(erasure.versions),
    }


def _as_text(erasure: Erasure) -> str:
    spec = erasure.spec
    names = ", ".join(concept.name for concept in erasure.concepts)
    lines = [f"{names}: {spec.method} ({spec.preset}) on {spec.model}, seed {spec.seed}"]
    lines += [f"  {edit.op} edit of {edit.component}, {len(edit.tensors)} tensors" for edit in erasure.edits]
    if erasure.cost is not None:
        lines.append(f"  {erasure.cost.seconds:.1f} s")
    return "\n".join([*lines, f"  hash {spec.short_hash}"])
