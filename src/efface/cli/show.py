"""``efface show`` and ``efface verify``: the content and the integrity of an erasure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.concept_names import concept_names
from efface.core.errors import EffaceError

from .app import app
from .options import Artifact, Json
from .output import print_result

if TYPE_CHECKING:
    from rich.text import Text

    from efface.core.erasure import Edit, Erasure
    from efface.core.evaluation_evidence import EvaluationEvidence

MAX_STRENGTHS = 4
"""Number of prompts whose strengths are shown of a gate."""


@app.command()
def show(artifact: Artifact, as_json: Json = False) -> None:
    """Show an erasure's verdict, effect check, cost, method, concepts and edits, after a check of every file's hash."""
    from efface.core.erasure import Erasure
    from efface.core.evaluation_evidence import read_evaluations

    erasure = Erasure.load(artifact)
    evaluations = read_evaluations(artifact, erasure.spec)
    print_result(describe_erasure(artifact, erasure), _as_text(erasure, artifact, evaluations), as_json)


@app.command()
def verify(artifact: Artifact, as_json: Json = False) -> None:
    """Check the hashes of an erasure's files and of the scores in its evidence; exit with code 2 if one was changed."""
    from efface.core.erasure import Erasure
    from efface.core.erasure import verify as verify_files
    from efface.core.evaluation_evidence import read_evaluations

    problems = verify_files(artifact)
    if not problems:
        read_evaluations(artifact, Erasure.load(artifact).spec)  # raises an error for scores that were changed
    rows = [{"file": problem.file, "kind": problem.kind, "message": problem.message} for problem in problems]
    text = "\n".join(str(problem) for problem in problems) or f"{artifact}: all files are unchanged"
    print_result({"problems": rows}, text, as_json)
    if not problems:
        return
    if problems[0].kind == "manifest":  # no other file could be compared
        raise EffaceError(problems[0].message)
    changed = ", ".join(problem.file for problem in problems)
    raise EffaceError(f"{artifact} was changed after it was written ({changed}): restore the files, or erase again")


def describe_erasure(folder: Path, erasure: Erasure) -> dict[str, Any]:
    """Describes an erasure and the verdicts of its evaluations as JSON values."""
    from efface.core.evaluation_evidence import read_evaluations

    spec, cost = erasure.spec, erasure.cost
    edits = [
        {
            "component": edit.component,
            "op": edit.op,
            "tensors": len(edit.tensors),
            "params": dict(edit.params),
            "gate": dict(edit.gate),
        }
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
        "evaluations": [_evaluation_as_data(item) for item in read_evaluations(folder, spec)],
    }


def _evaluation_as_data(evaluation: EvaluationEvidence) -> dict[str, Any]:
    verdict = evaluation.verdict
    return {"name": evaluation.name, "verdict": {**asdict(verdict), "passed": verdict.passed}}


def _as_text(erasure: Erasure, folder: Path, evaluations: Sequence[EvaluationEvidence]) -> Text:
    from rich.text import Text

    from efface.core.word_notes import word_notes

    spec, cost = erasure.spec, erasure.cost
    names = concept_names(erasure.concepts)
    effect = (erasure.effect or {}).get("summary", "not checked")
    memory = "" if cost is None or cost.peak_memory_bytes is None else f", {cost.peak_memory_bytes / 2**30:.1f} GiB"
    lines = [f"{names}: {spec.method}{f' ({spec.preset})' if spec.preset else ''} on {spec.model}, seed {spec.seed}"]
    lines += [f"  effect: {effect}"]
    lines += ["  cost: not measured" if cost is None else f"  cost: {cost.seconds:.1f} s{memory}"]
    lines += [f"  {line}" for line in word_notes(erasure).lines()]
    lines += [f"  {_edit_line(edit)}" for edit in erasure.edits]
    lines += [f"  {line}" for line in _gate_lines((erasure.effect or {}).get("gates", ()))]
    lines += [f"  hash {spec.short_hash}, all files are unchanged"]
    return Text.assemble(_verdict(folder, evaluations), "\n\n", "\n".join(lines))


def _edit_line(edit: Edit) -> str:
    kind = f" ({edit.params['kind']})" if "kind" in edit.params else ""
    gated = f", gated by {edit.gate.get('kind')}" if edit.gate else ""
    return f"{edit.op} edit of {edit.component}{kind}, {len(edit.tensors)} tensors{gated}"


def _gate_lines(gates: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each gate with the strengths of the effect check's first and last prompts, the concept's and retain prompts."""
    lines = []
    for gate in gates:
        strengths = list(gate["strengths"].items())
        shown = strengths if len(strengths) <= MAX_STRENGTHS else [*strengths[:2], *strengths[-2:]]
        texts = [f"{value:.2f} for {prompt!r}" for prompt, value in shown]
        lines.append(f"strength by {gate['gate']}: {', '.join(texts)}")
    return lines


def _verdict(folder: Path, evaluations: Sequence[EvaluationEvidence]) -> Text:
    """The verdict of the leading evaluation with the next step, or how to evaluate."""
    from rich.text import Text

    from .scores import STYLES, verdict_as_text

    if not evaluations:
        return Text.assemble(("not evaluated", STYLES["unsure"]), f"\nnext: efface evaluate {folder}")
    lead = evaluations[0]
    own = lead.result.metadata.get("instead_of_benchmark")
    note = f", on a benchmark of the user's own, not on {own}" if own else ""
    return Text.assemble(verdict_as_text(lead.verdict, lead.result, folder), f"\nevaluation: {lead.name}{note}")
