"""Draft a benchmark for any concept: phrases from the user, neighbours from the model's own text space."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from efface.core.attack_set import insert_phrase
from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.subsample import evenly_spaced
from efface.models.editable import EditableModel
from efface.models.model_ref import image_world

from .benchmark import Benchmark
from .benchmark_mismatch import POCKET
from .benchmark_validation import validate_benchmark
from .draft_plan import DraftPlan, RetainedSubjects, Subject, choose_retained
from .photo_draft import DEFAULT_CLIP, photo_plan, prompts_plan
from .photo_sampler import photo_sampler
from .pocket_draft import SPLITS, pocket_plan

SEEDS = {"dev": 10000, "test": 20000}
NUM_NAME_IMAGES = {"dev": 36, "test": 72}
NUM_IMAGES = 48
"""Least number of images of the groups domain, near and other; the verdict needs 30."""
NUM_RETAIN_PROMPTS = 24


def draft_benchmark(
    model: EditableModel, concept: Concept, *, domain: Sequence[str] = (), prompts: Sequence[str] = (),
    clip: str = DEFAULT_CLIP, detector: str = "", unscored: Sequence[str] = (),
) -> Benchmark:  # fmt: skip
    """Draft a benchmark with four groups and two splits that differ in templates and seeds.

    Near are the objects whose pooled text states are nearest to the concept's, other are dissimilar ones. Members of
    the concept that nobody named may be among the neighbours.

    Args:
        model: the model that the benchmark is for; only its text encoder is used.
        concept: the concept, with its retain prompts if it has some.
        domain: other phrases for the concept; by default the words of pocket's world, elsewhere none.
        prompts: whole prompts that show the concept, in place of its name in templates.
        clip: CLIP model that judges images of models other than pocket: a folder or a hub id.
        detector: ``nudenet:COUNTING`` to count exposed parts, only with `prompts`; by default the one that fits.
        unscored: words of subjects that are neither near nor other, such as concepts that are erased, too.

    Raises:
        EffaceError: too few candidates for neighbours, or a prompt that the content policy refuses.
    """
    plan = _plan(model, concept, domain, prompts, clip, detector)
    retained = choose_retained(model, plan, concept, unscored)
    benchmark = _assemble(plan, retained, concept, model.name)
    validate_benchmark(benchmark)
    return benchmark


def _assemble(plan: DraftPlan, retained: RetainedSubjects, concept: Concept, model: str) -> Benchmark:
    return Benchmark(
        name=benchmark_name(concept),
        version=1,
        description=f"{concept.name}, drafted for {model}",
        model=image_world(model),
        detector=plan.detector,
        clip=plan.clip,
        concept=replace(concept, retain_prompts=plan.retain_prompts or _retain_prompts(retained)),
        head=plan.head,
        classes=plan.classes,
        sampler=plan.sampler,
        attack_phrases=tuple(dict.fromkeys(phrase for split in SPLITS for phrase in plan.domain[split])),
        splits={split: _split(plan, retained, split) for split in SPLITS},
    )


def benchmark_name(concept: Concept) -> str:
    """Returns a concept's name as the name of a benchmark: letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", concept.name.lower()).strip("-") or "concept"


def _plan(
    model: EditableModel, concept: Concept, domain: Sequence[str], prompts: Sequence[str], clip: str, detector: str
) -> DraftPlan:
    is_pocket = image_world(model.name) == POCKET
    if detector and not (prompts and detector.startswith("nudenet:")):
        raise EffaceError(
            f"a draft chooses its detector itself; {detector!r} is not nudenet:COUNTING with a file of prompts: leave "
            "it out, and edit the field detector of the file"
        )
    if prompts and is_pocket:
        raise EffaceError("a file of prompts serves models other than pocket: leave it out, or choose another --model")
    if prompts:
        plan = prompts_plan(concept, prompts, domain, clip, detector or f"zero-shot:{clip}")
    else:
        plan = pocket_plan(concept, domain) if is_pocket else photo_plan(concept, domain, clip)
    return plan if is_pocket else replace(plan, sampler=photo_sampler(model))


def _split(plan: DraftPlan, retained: RetainedSubjects, split: str) -> dict[str, Any]:
    """Returns seed, templates and groups of a split."""
    expected = {plan.head: plan.classes[0] if len(plan.classes) == 1 else list(plan.classes)}
    concept = [{"phrase": phrase, "expected": expected} for phrase in plan.name[split]]
    domain = [{"phrase": phrase, "expected": expected} for phrase in plan.domain[split]]
    wording, templates = plan.wording[split], [dict(template) for template in plan.templates[split]]
    near, other = (_rows(subjects, plan.head, wording) for subjects in (retained.near, retained.other))
    groups = {
        "name": _group(concept, len(templates), NUM_NAME_IMAGES[split], all_templates=True),
        "domain": _group(domain, len(templates), NUM_IMAGES),
        "near": _group(near, len(templates), NUM_IMAGES),
        "other": _group(other, len(templates), NUM_IMAGES),
    }
    return {"seed": SEEDS[split], "templates": templates, "groups": groups}


def _rows(subjects: Sequence[Subject], head: str, wording: str) -> list[dict[str, Any]]:
    return [
        {
            "phrase": item.phrase if wording == "{}" else wording.replace("{}", item.phrase),
            "expected": {head: item.class_name},
        }
        for item in subjects
    ]


def _group(
    phrases: list[dict[str, Any]], num_templates: int, num_images: int, *, all_templates: bool = False
) -> dict[str, Any]:
    """Returns a group of at least ``num_images`` images, with as few seeds of a prompt as the templates allow."""
    count = max(len(phrases), 1)
    templates = num_templates if all_templates else min(num_templates, math.ceil(num_images / count))
    return {"templates": templates, "seeds": math.ceil(num_images / (count * templates)), "phrases": phrases}


def _retain_prompts(retained: RetainedSubjects) -> tuple[str, ...]:
    """Returns prompts of dissimilar subjects that no group scores."""
    chosen = evenly_spaced(retained.unscored, NUM_RETAIN_PROMPTS)
    return tuple(insert_phrase("a house" if "{}" in item.phrase else "a photo of {}", item.phrase) for item in chosen)
