"""What an erasure can be exported as; imports no torch, so that what cannot be is said at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.tensors import TensorBlob, TensorFile

FORMS = {
    "diffusers": "the whole edited pipeline as a folder",
    "component": "the folders of the components that were edited",
    "peft": "a LoRA in the layout of diffusers and PEFT",
    "kohya": "a LoRA in the layout of kohya, AUTOMATIC1111 and ComfyUI",
    "single-file": "the whole edited model as one file in the original layout",
}
LORA = ("peft", "kohya")
WHOLE = "export it as diffusers, component or single-file"
EXPORT = "efface_export.json"


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Attributes:
        folder: where it lies.
        form: one of `FORMS`.
        files: bytes by path below the folder.
        distances: of the base model from the erasure's by component (see `efface.ops.editing.apply.Applied`).
        forced: whether the base is another one than the erasure was made for.
        residuals: for a LoRA that approximates: the relative Frobenius norm of what it leaves out, by tensor.
    """

    folder: Path
    form: str
    files: Mapping[str, int]
    distances: Mapping[str, float | None] = field(default_factory=dict)
    forced: bool = False
    residuals: Mapping[str, float] = field(default_factory=dict)

    @property
    def loss(self) -> str:
        """What the approximation leaves out in one line; ``""`` where nothing was approximated."""
        if not self.residuals:
            return ""
        worst = max(self.residuals, key=lambda name: self.residuals[name])
        mean = sum(self.residuals.values()) / len(self.residuals)
        return (
            f"the LoRA leaves out {mean:.1%} of the change on average, {self.residuals[worst]:.1%} at worst ({worst})"
        )


def check_form(erasure: Erasure, form: str, rank: int | None = None) -> None:
    """Checks that an erasure can be exported in a form.

    Raises:
        UnknownName: no such form.
        EffaceError: an edit that the form cannot hold, or a rank where none is asked for.
    """
    if form not in FORMS:
        raise UnknownNameError("export form", form, FORMS)
    if any(edit.op == "guidance" for edit in erasure.edits):
        raise EffaceError(
            "a guidance edit acts while sampling and is in no weight: it cannot be exported, only applied by efface"
        )
    for edit in erasure.edits:
        if edit.gate or edit.op not in ("replace", "low_rank", "state"):
            raise EffaceError(
                f"the {edit.op} edit of {edit.component} is not a change of weights alone: it cannot be exported"
            )
        if edit.op == "state":
            _check_state(erasure, edit, form)
    if form in LORA:
        _check_lora(erasure, rank)
    elif rank is not None:
        raise EffaceError(f"a rank is for the forms {' and '.join(LORA)}, not for {form}: leave it out")


def _check_state(erasure: Erasure, edit: Edit, form: str) -> None:
    if form in LORA:
        raise EffaceError(f"a state edit is no LoRA: {WHOLE}")
    if "bias" in edit.tensors and TensorBlob.of(erasure.tensors[edit.tensors["bias"]]).numpy().any():
        raise EffaceError(
            "a state edit with a bias fits into no weight, because the projections that read the text have none"
        )


def _check_lora(erasure: Erasure, rank: int | None) -> None:
    replaced = [edit for edit in erasure.edits if edit.op == "replace"]
    if rank is not None and rank < 1:
        raise EffaceError(f"a rank of {rank} holds nothing: give at least 1")
    if rank is not None and not replaced:
        raise EffaceError("the erasure is a LoRA already, which is exported as it is: leave the rank out")
    if replaced and rank is None:
        raise EffaceError(
            f"the erasure replaces whole tensors: give a rank (--rank 16) for the nearest LoRA, or {WHOLE}"
        )
    for edit in replaced:
        for role, name in edit.tensors.items():
            if len(_shape(erasure, name)) < 2:
                raise EffaceError(f"the erasure replaces {role}, a bias or a norm, which no LoRA can hold: {WHOLE}")


def _shape(erasure: Erasure, name: str) -> tuple[int, ...]:
    tensors = erasure.tensors
    return tensors.shape(name) if isinstance(tensors, TensorFile) else tuple(tensors[name].shape)
