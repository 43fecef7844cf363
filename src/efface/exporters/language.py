"""Exports an erasure of a language model: the edited model as a folder for transformers, or a LoRA for PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from efface.core.concept_names import concept_names
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.io import atomic_folder, user_file_errors
from efface.core.manifest import README
from efface.core.serialization import json_bytes, to_jsonable
from efface.models.causal_lm import CausalLM
from efface.models.pipeline import silence_libraries
from efface.models.tensor_names import canonical_paths, resolve_tensor_name
from efface.ops.editing.apply import applied
from efface.ops.tensor_conversion import to_torch

from .formats import EXPORT_MANIFEST, Exported


def write_language_export(
    model: CausalLM, erasure: Erasure, out: Path, allow_base_mismatch: bool, overwrite: bool
) -> Exported:
    """Writes the edited model, its tokenizer, a README and the erasure's manifest; the model itself is restored.

    Raises:
        EffaceError: an edit that acts on hidden states, which no folder of weights holds, or another base model.
    """
    if held := [edit.op for edit in erasure.edits if edit.op not in ("replace", "low_rank")]:
        raise EffaceError(
            f"the {held[0]} edit of {erasure.spec.method} acts on hidden states: "
            "it cannot be exported, only applied by efface"
        )
    with atomic_folder(out, replace=overwrite) as new, user_file_errors(out), silence_libraries():
        with applied(model, erasure, allow_base_mismatch) as record:
            model.module.save_pretrained(new)
            model.tokenizer.save_pretrained(new)
        _describe(new, erasure, "`AutoModelForCausalLM.from_pretrained(folder)` loads it.", "transformers")
        files = _sizes(new)
    return Exported(out, "transformers", files, record.distances, record.base_mismatch)


def check_language_adapter(erasure: Erasure) -> None:
    """Checks that an erasure is a LoRA.

    Raises:
        EffaceError: an edit of another kind.
    """
    if other := [edit.op for edit in erasure.edits if edit.op != "low_rank"]:
        raise EffaceError(
            f"a LoRA cannot hold the {other[0]} edit of {erasure.spec.method}: pass --format transformers"
        )


def write_language_adapter(
    model: CausalLM, erasure: Erasure, out: Path, allow_base_mismatch: bool, overwrite: bool
) -> Exported:
    """Writes the low-rank edits as an adapter that ``PeftModel.from_pretrained`` loads; the model is not changed.

    Raises:
        EffaceError: another base model, or a module whose weight PEFT stores transposed.
    """
    with applied(model, erasure, allow_base_mismatch) as record:
        pass
    tensors = _adapter_tensors(model, erasure)
    modules = sorted({name.removeprefix(_PREFIX).rpartition(".lora_")[0] for name in tensors})
    ranks = {module: len(tensors[f"{_PREFIX}{module}.lora_A.weight"]) for module in modules}
    largest = max(ranks.values())
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": erasure.spec.model,
    }
    config |= {"target_modules": modules, "r": largest, "lora_alpha": largest, "lora_dropout": 0.0, "bias": "none"}
    config |= {"rank_pattern": ranks, "alpha_pattern": ranks, "inference_mode": True}
    with atomic_folder(out, replace=overwrite) as new, user_file_errors(out):
        save_file(tensors, new / "adapter_model.safetensors")
        (new / "adapter_config.json").write_bytes(json_bytes(config))
        _describe(new, erasure, "`PeftModel.from_pretrained(model, folder)` adds it to the model.", "peft")
        files = _sizes(new)
    return Exported(out, "peft", files, record.distances, record.base_mismatch)


_PREFIX = "base_model.model."


def _adapter_tensors(model: CausalLM, erasure: Erasure) -> dict[str, torch.Tensor]:
    """Returns the factors by PEFT's names, the edit's scale in the second factor."""
    paths = canonical_paths(model.module)
    tensors: dict[str, torch.Tensor] = {}
    for edit in erasure.edits:
        for target in sorted(edit.targets):
            module = paths[resolve_tensor_name(target, paths)].removesuffix(".weight")
            if type(model.module.get_submodule(module)).__name__ == "Conv1D":
                raise EffaceError(f"PEFT stores {module} transposed: pass --format transformers")
            down, up = (to_torch(erasure.tensors[edit.tensors[f"{target}.{end}"]]).float() for end in ("down", "up"))
            scale = float(edit.params.get("scale", 1.0))
            tensors[f"{_PREFIX}{module}.lora_A.weight"] = down.contiguous()
            tensors[f"{_PREFIX}{module}.lora_B.weight"] = (scale * up).contiguous()
    return tensors


def _describe(folder: Path, erasure: Erasure, usage: str, format: str) -> None:
    """Writes the README and the erasure's manifest."""
    names = concept_names(erasure.concepts)
    text = f"# {erasure.spec.model} without {names}\n\nErased by {erasure.spec.method} with efface.\n\n{usage}\n"
    (folder / README).write_text(text, encoding="utf-8")
    manifest: dict[str, Any] = {"schema": 1, "format": format, "erasure": erasure.spec.to_dict()}
    (folder / EXPORT_MANIFEST).write_bytes(json_bytes(to_jsonable(manifest)))


def _sizes(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
