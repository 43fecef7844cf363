"""Warnings about an evaluation, to read before its numbers."""

from __future__ import annotations

from efface.core.concept import Concept
from efface.core.evaluation_evidence import concept_of
from efface.core.result import Result
from efface.core.spec import RunSpec

from .evidence import LoadedEvaluation


def measured_concept(result: Result, spec: RunSpec) -> Concept:
    """The concept that a result measures, as the erasure describes it where it is one of its own."""
    name = concept_of(result) or spec.concepts[0].name
    return next((concept for concept in spec.concepts if concept.name == name), Concept(name))


def notes(evaluation: LoadedEvaluation, spec: RunSpec) -> tuple[str, ...]:
    """Warnings to read before the numbers."""
    metadata, texts = evaluation.result.metadata, []
    texts += [f"{text[:1].upper()}{text[1:]}: this is not a pass." for text in evaluation.verdict.caveats]
    if excluded := metadata.get("num_excluded"):
        texts.append(f"{excluded} images are left out: their prompts name another erased concept.")
    if own_benchmark := metadata.get("instead_of_benchmark"):
        texts.append(f"Measured on a benchmark of the user's own, not on efface's {own_benchmark}.")
    if metadata.get("model") not in (None, spec.model):
        texts.append(f"Measured on {metadata['model']}; the erasure was made for {spec.model}.")
    return tuple(texts)
