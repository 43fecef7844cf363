"""The export formats, and the check that an erasure fits one; imports no torch, so that the check is fast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.tensors import TensorBlob

FORMATS = {
    "diffusers": "the whole edited pipeline as a folder",
    "transformers": "the whole edited language model or classifier as a folder",
    "component": "the folders of the components that were edited",
    "peft": "a LoRA in the layout of diffusers and PEFT",
    "kohya": "a LoRA in the layout of kohya, AUTOMATIC1111 and ComfyUI",
    "single-file": "the whole edited model as one file in the original layout",
    "pipeline": "the whole pipeline with code for inserted modules, gates and UnGuide's guidance",
}
LORA_FORMATS = ("peft", "kohya")
"""Formats that hold low-rank factors instead of weights."""
WEIGHTS_HINT = "export it as diffusers, component or single-file"
"""Advice for edits that no LoRA can hold."""
EXPORT_MANIFEST = "efface_export.json"
"""File that marks a folder as an export; it holds the erasure's manifest and the hashes of all files."""


@dataclass(frozen=True)
class Exported:
    """The files of an export.

    Attributes:
        folder: Folder with the files.
        format: One of `FORMATS`.
        files: Size in bytes by path relative to the folder.
        distances: Distance of each component of the base model from the erasure's base.
        base_mismatch: Whether the base model differs from the one the erasure was made for.
        residuals: Relative Frobenius error of a LoRA approximation, by tensor; empty if the export is exact.
        lost: What the erasure does that the files cannot, in one sentence; empty for nothing.
    """

    folder: Path
    format: str
    files: Mapping[str, int]
    distances: Mapping[str, float | None] = field(default_factory=dict)
    base_mismatch: bool = False
    residuals: Mapping[str, float] = field(default_factory=dict)
    lost: str = ""

    @property
    def residual_summary(self) -> str:
        """The approximation error in one line; empty if the export is exact."""
        if not self.residuals:
            return ""
        worst = max(self.residuals, key=lambda name: self.residuals[name])
        mean = sum(self.residuals.values()) / len(self.residuals)
        return f"the LoRA leaves out {mean:.1%} of the change on average, {self.residuals[worst]:.1%} at most ({worst})"


def whole_model_format(format: str, kind: str) -> str:
    """Returns the format of a language model's or a classifier's export; ``diffusers``, the default, stands for it too.

    Args:
        format: One of `FORMATS`.
        kind: The kind of model, for the message.

    Raises:
        EffaceError: a format of image models.
    """
    if format not in ("diffusers", "transformers"):
        raise EffaceError(f"{kind} is exported as transformers, not as {format}: pass --format transformers")
    return "transformers"


def check_format(erasure: Erasure, format: str, rank: int | None = None) -> None:
    """Checks that an erasure can be exported in a format.

    Args:
        erasure: Erasure to export.
        format: One of `FORMATS`.
        rank: Rank of the LoRA for replaced matrices.

    Raises:
        UnknownNameError: Unknown format.
        EffaceError: An edit that the format cannot hold, or a rank that does not apply.
    """
    if format not in FORMATS:
        raise UnknownNameError("export format", format, FORMATS)
    if format == "pipeline":
        _check_pipeline(erasure)
    else:
        erasure = as_low_rank(erasure)[0] if format in LORA_FORMATS else erasure
        for edit in sorted(erasure.edits, key=lambda edit: edit.op != "guidance"):
            _check_edit(erasure, edit, format)
    if format in LORA_FORMATS:
        _check_lora(erasure, rank)
    elif rank is not None:
        raise EffaceError(f"a rank applies to the formats {' and '.join(LORA_FORMATS)}, not to {format}: omit --rank")


def added_edits(erasure: Erasure) -> list[Edit]:
    """Returns the edits that leave the weights alone: inserted modules and guidance."""
    return [edit for edit in erasure.edits if edit.op in ("module", "guidance")]


def _check_edit(erasure: Erasure, edit: Edit, format: str) -> None:
    """Raises `EffaceError` for an edit that weights, or a LoRA, cannot hold."""
    pipeline = "export it as pipeline, or apply it with efface"
    if edit.op == "guidance":
        cure = pipeline if edit.params.get("rule") == "unguide" else "apply it with efface"
        raise EffaceError(
            f"a guidance edit acts during sampling and changes no weight, so that {format} cannot hold it: {cure}"
        )
    if edit.params.get("kind") == "membrane":
        raise EffaceError("membranes are exported as kohya or peft, without their gate, or as pipeline: pass --format")
    if edit.gate or edit.op not in ("replace", "low_rank", "state"):
        raise EffaceError(f"the {edit.op} edit of {edit.component} does more than change weights: {pipeline}")
    if edit.op == "state":
        _check_state(erasure, edit, format)


def _check_pipeline(erasure: Erasure) -> None:
    """Raises `EffaceError` for an erasure that needs no pipeline of its own, or that the pipeline cannot hold."""
    added = added_edits(erasure)
    if not added:
        raise EffaceError("the erasure changes weights alone, and needs no pipeline of its own: export it as diffusers")
    for edit in added:
        rule, kind = edit.params.get("rule"), edit.params.get("kind")
        if edit.op == "guidance" and rule != "unguide":
            raise EffaceError(f"the guidance rule {rule!r} is not part of the exported pipeline: apply it with efface")
        if edit.params.get("transport") == "product":
            raise EffaceError("the product form of transport is not part of the exported pipeline: erase with sum")
        if edit.op == "module" and (edit.component == "text_encoder") != (kind == "autoencoder"):
            raise EffaceError(f"the exported pipeline has no {kind} in {edit.component}: apply it with efface")
    for edit in erasure.edits:
        if edit.op == "state":
            _check_state(erasure, edit, "pipeline")
            if any(other.gate for other in added):
                raise EffaceError(
                    "a gate reads the states that a state edit changes, and merged weights hide that change from it: "
                    "export the two erasures apart"
                )


def as_low_rank(erasure: Erasure) -> tuple[Erasure, str]:
    """Returns an erasure with its membranes as low-rank edits, and what is lost by that in one sentence.

    A gate is lost, and the guidance of UnGuide, which a LoRA cannot hold. Other erasures are returned unchanged.
    """
    membranes = [edit for edit in erasure.edits if edit.params.get("kind") == "membrane"]
    if not membranes:
        return erasure, ""
    adapters = {edit.params.get("adapter") for edit in membranes}
    guided = [edit for edit in erasure.edits if edit.params.get("rule") == "unguide"]
    guided = [edit for edit in guided if edit.params.get("adapter") in adapters]
    edits = [_low_rank_edit(edit) for edit in erasure.edits if edit not in guided]
    lost = "The gate is lost: the LoRA acts on every prompt with full strength." if membranes[0].gate else ""
    if guided:
        lost = "The guidance is lost: the LoRA acts on every prompt, and no prediction without it is mixed in."
    return replace(erasure, edits=tuple(edits)), lost


def _low_rank_edit(edit: Edit) -> Edit:
    if edit.params.get("kind") != "membrane":
        return edit
    roles = {f"{role.rpartition('.')[0]}.weight.{role.rpartition('.')[2]}": n for role, n in edit.tensors.items()}
    return Edit(edit.component, "low_rank", roles, params={"scale": edit.params.get("scale", 1.0)})


def _check_state(erasure: Erasure, edit: Edit, format: str) -> None:
    if format in LORA_FORMATS:
        raise EffaceError(f"a LoRA cannot hold a state edit: {WEIGHTS_HINT}")
    if "bias" in edit.tensors and TensorBlob.of(erasure.tensors[edit.tensors["bias"]]).numpy().any():
        raise EffaceError(
            "a state edit with a bias cannot be exported: the projections that read the text states have no bias"
        )


def _check_lora(erasure: Erasure, rank: int | None) -> None:
    replaced = [edit for edit in erasure.edits if edit.op == "replace"]
    if rank is not None and rank < 1:
        raise EffaceError(f"rank {rank} is too small: give at least 1")
    if rank is not None and not replaced:
        raise EffaceError("the erasure is low-rank already and is exported exactly: omit --rank")
    if replaced and rank is None:
        raise EffaceError(
            f"the erasure replaces whole tensors: give the rank of a LoRA approximation (--rank 16), or {WEIGHTS_HINT}"
        )
    for edit in replaced:
        for role, name in edit.tensors.items():
            if len(erasure.tensors[name].shape) < 2:
                raise EffaceError(
                    f"the erasure replaces {role}, a bias or a norm, which a LoRA cannot hold: {WEIGHTS_HINT}"
                )
