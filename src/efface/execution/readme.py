"""The README of an erasure's folder: its origin, its effect, and the lines that load it without efface."""

from __future__ import annotations

from efface.core.concept_names import concept_names
from efface.core.erasure import Erasure
from efface.core.manifest import CLASSIFIER_COMPONENT
from efface.core.manifest import LANGUAGE_COMPONENT as COMPONENT

LOAD_WITH_DIFFUSERS = """\
import json
from diffusers import DiffusionPipeline
from safetensors.torch import load_file

pipe = DiffusionPipeline.from_pretrained("path/to/the/base/model")
edited = load_file("weights.safetensors")
for edit in json.load(open("erasure.json"))["edits"]:
    component = getattr(pipe, edit["component"])
    weights = {name.removeprefix("text_model."): tensor for name, tensor in component.state_dict().items()}
    for name, key in edit["tensors"].items():
        weights[name.removeprefix("text_model.")].copy_(edited[key])
"""
"""Code that copies the tensors of ``replace`` edits into a diffusers pipeline."""


def render_readme(erasure: Erasure, effect_summary: str) -> str:
    """Renders README.md: method, preset, seed, effect check, and how to use the erasure without efface.

    Args:
        erasure: The erasure.
        effect_summary: One line with the result of the effect check.
    """
    spec = erasure.spec
    names = concept_names(erasure.concepts)
    paragraphs = [
        f"# Erasure of {names} from {spec.model} by {spec.method}",
        f"Preset {spec.preset}, seed {spec.seed}. Effect check: {effect_summary}.",
        f"Concepts: {concept_names(erasure.concepts, limit=None)}.",
        _usage(erasure),
        "`efface verify` compares every file with its recorded SHA-256 hash. `efface show` summarises erasure.json.",
    ]
    return "\n\n".join(paragraphs) + "\n"


def _usage(erasure: Erasure) -> str:
    """One paragraph on how to use the erasure, by the kinds of its edits."""
    ops = {edit.op for edit in erasure.edits}
    if {edit.component for edit in erasure.edits} == {COMPONENT}:
        return (
            "`efface.applied(model, erasure)` applies it to a language model; `efface export` writes the edited model "
            "as a folder for transformers if the edits change weights alone."
        )
    if {edit.component for edit in erasure.edits} == {CLASSIFIER_COMPONENT}:
        return (
            "`efface.applied(model, erasure)` applies it to a classifier; `efface export` writes the edited classifier "
            "as a folder."
        )
    if ops == {"replace"}:
        return f"This code loads the erasure with diffusers alone:\n\n```python\n{LOAD_WITH_DIFFUSERS}```"
    if ops == {"guidance"} and all(edit.params.get("rule") == "negative_prompt" for edit in erasure.edits):
        prompts = ", ".join(str(prompt) for edit in erasure.edits for prompt in edit.params["prompts"])
        return f"The nearest equivalent in diffusers alone is `pipe(prompt, negative_prompt={prompts!r})`."
    if "guidance" in ops:
        return "This erasure acts during sampling: `efface.applied(model, erasure)` applies it to a model."
    return "`efface export` writes the erasure for diffusers, ComfyUI and AUTOMATIC1111."
