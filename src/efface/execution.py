"""From a registered function to what it makes: configuration, the run, the effect check, the artifact's README."""

from __future__ import annotations

import json
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from efface.benchmarks.quick_evaluation import quick_evaluate, summarize
from efface.core.attack_set import AttackSet, AttackTask, Budget
from efface.core.concept import Concept
from efface.core.config import build_config, resolve_preset
from efface.core.erasure import Cost, Erasure
from efface.core.errors import EffaceError
from efface.core.io import atomic_write_json, read_json
from efface.core.method_card import MethodCard
from efface.core.seeds import derive_seed
from efface.core.spec import RunSpec
from efface.models.editable import EditableModel
from efface.models.loading import base_bundled_model
from efface.models.memory import oom_as_user_error
from efface.models.parameter_groups import TEXT_ENCODER_2
from efface.ops.adversarial.attack_context import AttackContext, erasure_applied, snapshot_originals
from efface.ops.editing.apply import active_erasures, check_base
from efface.ops.editing.apply_edits import SAMPLER
from efface.ops.editing.change_check import change_check
from efface.ops.text.concept_tokens import check_fits_context
from efface.ops.training.progress import Progress, Silent
from efface.ops.training.run import Run

LOWER = "lower batch and what else is drawn or trained at once (--set batch=1), or choose a smaller dtype (--dtype bfloat16)"


def resolve_config(function: object, preset: str | None, model: str, overrides: Mapping[str, Any]) -> tuple[Any, str]:
    """The configuration of a registered function, from the ``Config`` and ``PRESETS`` beside it, and the preset's name.

    Raises:
        UnknownName: no such preset or field. EffaceError: a value of another type.
    """
    module: Any = sys.modules[str(getattr(function, "__module__", ""))]
    chosen = resolve_preset(module.PRESETS, preset, base_bundled_model(model))
    return build_config(module.Config, module.PRESETS, chosen, overrides), chosen


def check_family(function: Any, model: EditableModel) -> None:
    """Raises `EffaceError` unless a method or attack supports the model, by the families of the ``CARD`` beside it."""
    card = _card(function)
    if card is not None and model.family not in card.families:
        raise EffaceError(
            f"{card.name} does not support {model.family} models such as {model.name}; it does {', '.join(card.families)}"
        )


def _card(function: Any) -> MethodCard | None:
    """The ``CARD`` beside a method or attack; a function of a user's own may have none."""
    found: MethodCard | None = getattr(sys.modules[str(getattr(function, "__module__", ""))], "CARD", None)
    return found


def run_method(
    model: EditableModel, concepts: tuple[Concept, ...], out: Path, function: Any, *, preset: str | None, overrides: Mapping[str, Any],
    seed: int, resume: bool, overwrite: bool, progress: Progress | None,
) -> Erasure:  # fmt: skip
    """Runs a method, checks its effect, and saves the erasure; checkpoints lie beside ``out`` until it is there."""
    check_family(function, model)
    check_fits_context(model, concepts)
    config, chosen = resolve_config(function, preset, model.name, overrides)
    spec = RunSpec(model.name, model.fingerprint(), function.__name__, asdict(config), concepts, seed, chosen)
    return run_and_save(
        model,
        spec,
        out,
        lambda run: function(model, concepts, config, run),
        resume=resume,
        overwrite=overwrite,
        progress=progress,
    )


def run_and_save(
    model: EditableModel, spec: RunSpec, out: Path, work_of: Callable[[Run], Erasure], *, resume: bool, overwrite: bool,
    progress: Progress | None,
) -> Erasure:  # fmt: skip
    """Does a run's work, checks its effect and saves the erasure."""
    work, seed = out.parent / f".{out.name}.run", spec.seed
    run = Run(seed=seed, device=model.device, folder=work, progress=progress or Silent(), spec=spec, resume=resume)
    began, clock = time.perf_counter(), work / "seconds.json"
    earlier = float(str(read_json(clock))) if resume and clock.is_file() else 0.0
    try:
        with oom_as_user_error(LOWER):
            erasure = work_of(run)
    finally:
        seconds = earlier + time.perf_counter() - began
        if work.is_dir():
            with suppress(EffaceError):  # a full disk has an error of its own to tell
                atomic_write_json(clock, seconds)
    erasure = replace(erasure, cost=Cost(seconds, measure_peak_memory()))
    erasure, line = with_change_check(model, erasure, progress)
    history = json.dumps(run.history).encode()
    saved = erasure.save(out, readme=render_readme(erasure, line), files={"history.json": history}, overwrite=overwrite)
    shutil.rmtree(work, ignore_errors=True)
    return saved


def with_change_check(
    model: EditableModel, erasure: Erasure, progress: Progress | None, **more: Any
) -> tuple[Erasure, str]:
    """The erasure with its effect check, and the check in one line."""
    effect = change_check(model, erasure, seed=derive_seed(erasure.spec.seed, "effect") % 2**31)
    seen = quick_evaluate(model, erasure, progress)
    line = effect.summary() + (f"; {summarize(seen)}" if seen else "")
    return replace(erasure, effect={**effect.to_dict(), "look": seen, "verdict": line, **more}), line


def transfer_erasure(
    model: EditableModel, erasure: Erasure, out: Path, *, force: bool, overwrite: bool, progress: Progress | None
) -> Erasure:
    """The same edits as an erasure for another model; what they edit must be what they were made for, unless it is forced."""
    base = model.fingerprint()
    edited = {edit.component for edit in erasure.edits} - {SAMPLER}
    made_for = {name: print_ for name, print_ in erasure.spec.base.items() if name in edited}
    partial = replace(erasure, spec=replace(erasure.spec, base=made_for))
    distances, other = check_base(model, partial, base, force)
    text = {component for component in base if component.startswith("text_encoder")}
    if text & edited and (left := sorted(text - edited)):
        warnings.warn(
            f"{model.name} reads {left[0]} too, which this erasure leaves as it is: the concept may still be asked for",
            stacklevel=3,
        )
    spec = replace(erasure.spec, model=model.name, base=base)
    said = {"from": erasure.spec.hash, "model": erasure.spec.model, "distances": distances, "forced": bool(other)}
    moved, line = with_change_check(model, replace(erasure, spec=spec, cost=None, folder=None), progress, transfer=said)
    return moved.save(out, readme=render_readme(moved, line), overwrite=overwrite)


def run_attack(
    model: EditableModel, erasure: Erasure, concept: Concept, tasks: Sequence[AttackTask], function: Any, *,
    phrases: Sequence[str] = (), overrides: Mapping[str, Any], preset: str | None = None, seed: int = 0, force: bool = False,
    progress: Progress | None = None,
) -> AttackSet:  # fmt: skip
    """Runs an attack on a model with the erasure applied; what it took is measured here. What the policy does not allow stays in.

    ``phrases``, other words for the concept, go to attacks whose configuration has a field of that name and is given none.
    """
    check_family(function, model)
    config, _ = resolve_config(function, preset, model.name, overrides)
    if phrases and getattr(config, "phrases", None) == ():
        config = replace(config, phrases=tuple(phrases))
    unedited = snapshot_originals(model, erasure)
    with erasure_applied(model, erasure, force) as unerased:
        run = AttackContext(
            seed=seed,
            device=model.device,
            progress=progress or Silent(),
            original_params=unedited,
            erasure_disabled=unerased,
        )
        base, began = active_erasures(model)[-1].base, time.perf_counter()
        with oom_as_user_error(LOWER):
            found: AttackSet = function(model, concept, tasks, config, run)
        budget = Budget(found.budget.steps, time.perf_counter() - began)
    return replace(found, budget=budget, erasure_hash=erasure.spec.hash, base_fingerprint=base)


def attack_batch_size(function: Any, preset: str | None, model: str, overrides: Mapping[str, Any]) -> int | None:
    """How many prompts an attack searches from together: its ``batch``, or one; None where what it finds is for all of them."""
    config, card = resolve_config(function, preset, model, overrides)[0], _card(function)
    return int(getattr(config, "batch_size", 1)) if card is not None and card.batch_independent else None


def drop_refused(found: AttackSet) -> AttackSet:
    """What a search found without what the content policy does not allow; a warning says how much that is."""
    kept = found.without_refused()
    if left_out := len(found.prompts) - len(kept.prompts):
        warnings.warn(
            f"{left_out} of {len(found.prompts)} prompts that the search found are left out: content policy",
            stacklevel=2,
        )
    return kept


def measure_peak_memory() -> int | None:
    """Peak memory in bytes: of the CUDA device, else of the process (None where the system does not say)."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:
        return None
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def render_readme(erasure: Erasure, line: str) -> str:
    """The artifact's README: what it is, and the lines that load it in plain diffusers."""
    spec = erasure.spec
    names = ", ".join(concept.name for concept in erasure.concepts)
    text = f"# {names}, erased from {spec.model} by {spec.method}\n\nPreset {spec.preset}, seed {spec.seed}. Effect check: {line}.\n"
    ops = {edit.op for edit in erasure.edits}
    if ops == {"replace"}:
        lines = (
            REPLACES
            if TEXT_ENCODER_2 not in spec.base
            else REPLACES.replace("StableDiffusionPipeline", "StableDiffusionXLPipeline")
        )
        text += f"\nWithout efface, in plain diffusers:\n\n```python\n{lines}```\n"
    elif ops == {"guidance"} and all(edit.params.get("rule") == "negative_prompt" for edit in erasure.edits):
        prompts = ", ".join(str(p) for edit in erasure.edits for p in edit.params["prompts"])
        text += f"\nWithout efface, in plain diffusers: `pipe(prompt, negative_prompt={prompts!r})`, the nearest that it has to this edit.\n"
    elif "guidance" in ops:
        text += "\nThis edit acts while sampling: `efface.applied(model, erasure)` puts it on a model.\n"
    else:
        text += "\nWithout efface: `efface export` writes it for diffusers, ComfyUI and AUTOMATIC1111.\n"
    return text + "\n`efface verify` re-hashes every file; `efface show` prints what stands in erasure.json.\n"


REPLACES = """\
import json
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

pipe = StableDiffusionPipeline.from_pretrained("path/to/the/base/model")
tensors = load_file("weights.safetensors")
for edit in json.load(open("erasure.json"))["edits"]:
    component = getattr(pipe, edit["component"])
    own = {name.removeprefix("text_model."): tensor for name, tensor in component.state_dict().items()}
    for name, key in edit["tensors"].items():
        own[name.removeprefix("text_model.")].copy_(tensors[key])
"""
