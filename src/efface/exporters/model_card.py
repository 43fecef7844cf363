"""The model card of an export: where it comes from, what was measured, how it is loaded."""

from __future__ import annotations

import json
from pathlib import Path

from efface.core.erasure import Erasure
from efface.core.manifest import EVIDENCE
from efface.core.result import Result

from .formats import FORMS, LORA, Exported

_LOADED = {
    "diffusers": 'from diffusers import DiffusionPipeline\n\npipe = DiffusionPipeline.from_pretrained("path/to/this/folder")\n',
    "peft": 'pipe.load_lora_weights("path/to/this/folder")\n',
    "kohya": 'pipe.load_lora_weights("path/to/this/folder", weight_name="{file}")\n',
    "single-file": (
        "from diffusers import {pipeline}\n\n"
        'pipe = {pipeline}.from_single_file("{file}", config="path/to/the/base/model")  # a diffusers folder\n'
    ),
}


def render_model_card(
    exported: Exported,
    erasure: Erasure,
    evidence: Path | None,
    pipeline: str,
    components: tuple[tuple[str, str, str], ...],
) -> str:
    """The text of README.md.

    Args:
        exported: what was exported.
        erasure: of which erasure.
        evidence: the erasure's folder, whose evidence is told; None for none.
        pipeline: the class of the base's pipeline.
        components: name, module and class of the components that were edited.
    """
    spec = erasure.spec
    names = ", ".join(concept.name for concept in erasure.concepts)
    base = f"base_model: {json.dumps(spec.model, ensure_ascii=False)}"
    lines = [
        "---",
        base,
        "library_name: diffusers",
        "tags: [concept-erasure, efface]",
        "---",
        "",
        f"# {spec.model} without {names}",
        "",
    ]
    form = FORMS[exported.form]
    lines += [f"{form[0].upper()}{form[1:]}, exported by efface.", "", "## Provenance", ""]
    lines += [
        f"- base model: {spec.model}{' (forced onto another base than the erasure was made for)' if exported.forced else ''}"
    ]
    lines += [
        f"- erased: {names}",
        f"- method: {spec.method}, preset {spec.preset}, seed {spec.seed}, efface {spec.version}",
    ]
    lines += [f"- run: {spec.hash}", *([f"- {exported.loss}"] if exported.loss else [])]
    lines += ["- the erasure's manifest with every setting: `efface_export.json`", "", "## Measured", ""]
    lines += (measured_section(evidence) if evidence else []) or ["Nothing: there was no evaluation with the erasure."]
    lines += [
        "",
        "## Use",
        "",
        "```python",
        _use(exported, pipeline, components).rstrip(),
        "```",
        *_interface(exported),
        "",
    ]
    return "\n".join([*lines, *_TERMS.format(model=spec.model).splitlines(), ""])


_TERMS = """\
## Licence

What is derived from the weights of {model} stays under the licence of {model}: read it before you pass this on. efface adds no terms.

## Limits

Whoever holds the base model can undo the erasure. An erasure lowers how often a concept is drawn; the numbers above say by how much for the
prompts that were tried, and nothing is proved for others."""


def measured_section(folder: Path) -> list[str]:
    """One line for every evaluation and attack in an erasure's evidence.

    Raises:
        EffaceError: a result that cannot be read.
    """
    lines = []
    for path in sorted((folder / EVIDENCE).glob("*/result.json")):
        lines.append(f"- {path.parent.name}: {Result.load(path).summary()}")
    for path in sorted((folder / EVIDENCE / "attacks").glob("*/result.json")):
        said = "; ".join(score.summary() for score in Result.load(path).scores)
        lines.append(f"- attack {path.parent.name}: {said}")
    return lines


def _use(exported: Exported, pipeline: str, components: tuple[tuple[str, str, str], ...]) -> str:
    if exported.form == "component":
        loads = [
            (cls, f'{name} = {cls}.from_pretrained("path/to/this/folder/{name}")', module)
            for name, module, cls in components
        ]
        imports = "\n".join(dict.fromkeys(f"from {module} import {cls}" for cls, _, module in loads))
        given = ", ".join(f"{name}={name}" for name, _, _ in components)
        last = f'pipe = {pipeline}.from_pretrained("path/to/the/base/model", {given})'
        return "\n".join([f"from diffusers import {pipeline}", imports, "", *(line for _, line, _ in loads), last])
    file = next((name for name in exported.files if name.endswith(".safetensors")), "")
    return _LOADED[exported.form].format(file=file, pipeline=pipeline)


def _interface(exported: Exported) -> list[str]:
    if exported.form == "single-file":
        return ["", "In ComfyUI and AUTOMATIC1111: put the `.safetensors` file among the checkpoints."]
    if exported.form == "kohya":
        return ["", "In ComfyUI and AUTOMATIC1111: put the `.safetensors` file among the LoRAs; use it with weight 1."]
    if exported.form in LORA:
        return [
            "",
            "Use it with weight 1; `pipe.fuse_lora()` makes it part of the weights. diffusers needs the package peft for it.",
        ]
    return []
