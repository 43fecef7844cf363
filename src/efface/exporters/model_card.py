"""The model card of an export: its origin, the measured scores, and the code that loads it."""

from __future__ import annotations

import json
from pathlib import Path

from efface.core.concept_names import concept_names
from efface.core.erasure import Erasure
from efface.core.evaluation_evidence import is_of_run, read_attack_results, read_evaluations
from efface.core.spec import RunSpec

from .formats import FORMATS, LORA_FORMATS, Exported

_LOADING_CODE = {
    "diffusers": (
        'from diffusers import DiffusionPipeline\n\npipe = DiffusionPipeline.from_pretrained("path/to/this/folder")\n'
    ),
    "pipeline": (
        "from diffusers import DiffusionPipeline\n\n"
        'folder = "path/to/this/folder"  # read pipeline.py first: it is code that runs\n'
        "pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)\n"
    ),
    "peft": 'pipe.load_lora_weights("path/to/this/folder")\n',
    "kohya": 'pipe.load_lora_weights("path/to/this/folder", weight_name="{file}")\n',
    "single-file": (
        "from diffusers import {pipeline}\n\n"
        'pipe = {pipeline}.from_single_file("{file}", config="path/to/the/base/model")  # a diffusers folder\n'
    ),
}
_TRANSFORMER_CODE = """\
from diffusers import {pipeline}, {transformer}

base = "path/to/the/base/model"  # a diffusers folder
transformer = {transformer}.from_single_file("{file}", config=base, subfolder="transformer")
pipe = {pipeline}.from_pretrained(base, transformer=transformer)
"""
_CARD = """\
---
base_model: {base_model}
library_name: diffusers
tags: [concept-erasure, efface]
---

# Erasure of {names} from {model}

{format}, exported by efface.

## Provenance

{provenance}

## Measured

{scores}

## Use

```python
{code}
```
{interface}
## Licence

Weights derived from {model} stay under its licence: read it before you share this export. efface adds no terms.

## Limits

Anyone who has the base model can undo the erasure. An erasure makes a model generate a concept less often. The scores
above hold for the prompts that were tested; they prove nothing about other prompts.
"""


def render_model_card(
    exported: Exported,
    erasure: Erasure,
    evidence: Path | None,
    pipeline: str,
    components: tuple[tuple[str, str, str], ...],
) -> str:
    """Renders README.md.

    Args:
        exported: The export.
        erasure: The exported erasure.
        evidence: Folder of the erasure, whose evidence the card reports; None for an erasure in memory.
        pipeline: Class name of the base model's pipeline.
        components: Name, module and class of each edited component.
    """
    scores = measured_section(evidence, erasure.spec) if evidence else []
    description = FORMATS[exported.format]
    return _CARD.format(
        base_model=json.dumps(erasure.spec.model, ensure_ascii=False),
        model=erasure.spec.model,
        names=concept_names(erasure.concepts),
        format=description[0].upper() + description[1:],
        provenance="\n".join(_provenance(exported, erasure)),
        scores="\n".join(scores) or "Nothing: the erasure was not evaluated.",
        code=_loading_code(exported, pipeline, components).rstrip(),
        interface=_interface_hint(exported, holds_transformer=components[0][0] == "transformer"),
    )


def measured_section(folder: Path, spec: RunSpec) -> list[str]:
    """One line for each evaluation and attack in an erasure's evidence; each line states its caveats.

    Args:
        folder: Folder of the erasure.
        spec: The erasure's run.

    Raises:
        EffaceError: A result that cannot be read.
    """
    lines = []
    for evaluation in read_evaluations(folder, spec):
        concept = f" ({evaluation.concept})" if evaluation.concept and not evaluation.verdict.concept else ""
        lines.append(f"- {evaluation.name}{concept}: {evaluation.verdict.summary()}")
    for label, result in read_attack_results(folder).items():
        scores = "; ".join(score.summary() for score in result.scores)
        marks = "".join(f"; {caveat}" for caveat in result.verdict.caveats)
        other = "" if is_of_run(result, spec.hash) else "; measured on another run than this erasure"
        lines.append(f"- attack {label}: {scores}{marks}{other}")
    return lines


def _provenance(exported: Exported, erasure: Erasure) -> list[str]:
    """List items on the base model, the method, the run and the accuracy of the export."""
    spec = erasure.spec
    mismatch = " (differs from the base model the erasure was made for)" if exported.base_mismatch else ""
    items = [
        f"base model: {spec.model}{mismatch}",
        f"erased: {concept_names(erasure.concepts, limit=None)}",
        f"method: {spec.method}, preset {spec.preset}, seed {spec.seed}, efface {spec.version}",
        f"run: {spec.hash}",
        exported.residual_summary,
        exported.lost,
        "all settings: the erasure's manifest in `efface_export.json`",
    ]
    return [f"- {item}" for item in items if item]


def _loading_code(exported: Exported, pipeline: str, components: tuple[tuple[str, str, str], ...]) -> str:
    if exported.format == "single-file" and components[0][0] == "transformer":
        file = next(name for name in exported.files if name.endswith(".safetensors"))
        return _TRANSFORMER_CODE.format(file=file, pipeline=pipeline, transformer=components[0][2])
    if exported.format != "component":
        file = next((name for name in exported.files if name.endswith(".safetensors")), "")
        return _LOADING_CODE[exported.format].format(file=file, pipeline=pipeline)
    imports = dict.fromkeys(f"from {module} import {cls}" for _, module, cls in components)
    loads = [f'{name} = {cls}.from_pretrained("path/to/this/folder/{name}")' for name, _, cls in components]
    arguments = ", ".join(f"{name}={name}" for name, _, _ in components)
    build = f'pipe = {pipeline}.from_pretrained("path/to/the/base/model", {arguments})'
    return "\n".join([f"from diffusers import {pipeline}", *imports, "", *loads, build])


def _interface_hint(exported: Exported, *, holds_transformer: bool) -> str:
    """A paragraph on graphical programs, with a blank line before and after; empty for folders."""
    if exported.format == "single-file" and holds_transformer:
        return "\nIn ComfyUI, put the `.safetensors` file into the folder of diffusion models.\n"
    if exported.format == "single-file":
        return "\nIn ComfyUI and AUTOMATIC1111, put the `.safetensors` file into the folder of checkpoints.\n"
    if exported.format == "kohya":
        return "\nIn ComfyUI and AUTOMATIC1111, put the `.safetensors` file into the folder of LoRAs. Use weight 1.\n"
    if exported.format in LORA_FORMATS:
        return "\nUse weight 1. `pipe.fuse_lora()` merges it into the weights. diffusers needs the package peft.\n"
    return ""
