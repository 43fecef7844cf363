"""Runs of every image method on tiny models, with few and large steps."""

from __future__ import annotations

import dataclasses
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from helpers.tiny import TEMPLATES, tiny_model, tiny_of
from helpers.tiny_flow import tiny_flow_of
from helpers.tiny_ip_adapter import tiny_ip_adapter

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.registry import METHODS
from efface.execution import run_method
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.training.progress import Silent

FEW_STEPS = {
    "steps": 6,
    "warmup_steps": 2,
    "attack_steps": 2,
    "batch_size": 2,
    "retain_batch_size": 1,
    "learning_rate": 1e-2,
    "max_grad_norm": 100.0,
    "num_images": 4,
    "num_inference_steps": 2,
    "num_templates": 0,
    "trajectories_per_prompt": 1,
    "top_k": 1,
    "domain_images": 0,
    "ambiguous_fraction": 0.0,
}
OVERRIDES: dict[str, dict[str, Any]] = {
    "ant": {"saliency_maps": 2, "saliency_steps": 1},
    "concept_ablation": {"num_images": 16},
    "crce": {"coreference_file": str(Path(__file__).parents[1] / "methods" / "coreferences.yaml")},
    "elide": {"num_templates": 3},
    "sage": {"num_templates": 3},
    "itd": {"layer": 0, "second_layer": 0, "num_features": 64, "num_active": 4, "top_features": 8, "num_words": 8},
    "receler": {"num_learned_states": 4},
    "trce": {"ridge": 1e-3, "retain_trajectories": 2},
    "unguide": {"gate_repeats": 2, "gate_steps": 1, "gate_inference_steps": 2},
}
"""Settings of single methods: images of both concepts, templates that fit the context, a regular system."""
CONCEPT = Concept("gun", retain_prompts=("a cat", "a dog"), template_library=TEMPLATES)
ADAPTERS = TemporaryDirectory()


def module_of(name: str) -> Any:
    return sys.modules[METHODS.get(name).__module__]  # type: ignore[attr-defined]


def few_steps(name: str, **settings: Any) -> dict[str, Any]:
    """Few and large steps, changed by the given settings, for the fields that the method has."""
    fields = {field.name for field in dataclasses.fields(module_of(name).Config)}
    chosen = FEW_STEPS | OVERRIDES.get(name, {}) | settings
    return {key: value for key, value in chosen.items() if key in fields}


def run(
    name: str,
    out: Path,
    model: StableDiffusionModel | None = None,
    concepts: tuple[Concept, ...] = (CONCEPT,),
    *,
    seed: int = 3,
    resume: bool = False,
    progress: Silent | None = None,
    **settings: Any,
) -> Erasure:
    model = model or model_for(name)
    settings |= {"image_adapter": adapter_for(model.family)} if name == "co_erasing" else {}
    return run_method(
        model,
        concepts,
        out,
        METHODS.get(name),
        preset="paper",
        overrides=few_steps(name, **settings),
        seed=seed,
        resume=resume,
        overwrite=False,
        progress=progress,
    )


@cache
def adapter_for(family: str) -> str:
    """The folder of a tiny IP-Adapter for the tiny models of a family."""
    return str(tiny_ip_adapter(Path(ADAPTERS.name) / family, tiny_of(family)))


def model_for(name: str) -> Any:
    """A tiny Stable Diffusion 1, or a tiny FLUX for methods of flow models alone."""
    return tiny_model() if "sd1" in METHODS.card(name).families else tiny_flow_of("flux")
