"""A LoRA that is trained beside a frozen model, on the model's own weights or on edited ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from efface.core.edits import Edit
from efface.core.errors import EffaceError
from efface.core.tensors import TensorBlob
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning, Params, Prediction
from efface.models.quantization import has_quantized_layers
from efface.ops.editing.row_strengths import Insertion
from efface.ops.tensor_conversion import to_blob

from .inserted_student import InsertedStudent


class LoraAdapter:
    """W + B A for every matrix of a role (LoRA: Hu et al. 2021, arXiv 2106.09685); the model is never written to.

    Args:
        model: the original model.
        role: parameter group whose matrices are trained; its biases and other vectors stay unchanged.
        rank: r; A is ``(r, i)``, normal with variance 1 / r^2 as in diffusers, B is ``(o, r)`` and zero.
        generator: draws A, on the CPU.
        base_params: tensors that replace the denoiser's, by their own name; W is the replaced tensor.

    Raises:
        EffaceError: a rank below 1, or a role without matrices.
    """

    def __init__(
        self, model: EditableModel, role: str, rank: int, generator: torch.Generator, base_params: Params | None = None
    ) -> None:
        self.model = model
        self.group = model.parameter_group(role)
        self.base_params = dict(base_params or {})
        matrices = {name: weight for name, weight in self.group.parameters.items() if weight.ndim > 1}
        if rank < 1 or not matrices:
            raise EffaceError(
                f"a LoRA of rank {rank} of {role} trains nothing: set a rank of 1 or more, and a role with matrices"
            )
        self.down_factors: dict[str, Tensor] = {}
        self.up_factors: dict[str, Tensor] = {}
        for name, weight in matrices.items():
            down = torch.randn(rank, weight[0].numel(), generator=generator) / rank
            self.down_factors[name] = down.to(weight.device).requires_grad_(True)
            self.up_factors[name] = torch.zeros(len(weight), rank, device=weight.device).requires_grad_(True)

    @property
    def trainable_params(self) -> dict[str, Tensor]:
        """Every A (``<name>.down``) and B (``<name>.up``), float32, for `Run.steps`."""
        ups = {f"{name}.up": up for name, up in self.up_factors.items()}
        return {f"{name}.down": down for name, down in self.down_factors.items()} | ups

    def delta(self) -> dict[str, Tensor]:
        """Returns B A by canonical name, in the shape of W; gradients reach A and B."""
        shapes = self.group.parameters
        return {name: (up @ self.down_factors[name]).view_as(shapes[name]) for name, up in self.up_factors.items()}

    def params(self) -> dict[str, Tensor]:
        """Returns the tensors that replace the denoiser's, in their dtype and under their own names."""
        replaced = dict(self.base_params)
        for name, delta in self.delta().items():
            path = self.group.paths[name]
            original = self.group.parameters[name]
            replaced[path] = (self.base_params.get(path, original) + delta).to(original.dtype)
        return replaced

    def predict(self, z: Tensor, t: Tensor | float, cond: Conditioning) -> Prediction:
        """Runs the denoiser with the LoRA once."""
        return self.model.predict(z, t, cond, params=self.params())

    @torch.no_grad()
    def factors(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Returns B and A of every matrix, float64, on the CPU."""
        return {
            name: (up.double().cpu(), self.down_factors[name].double().cpu()) for name, up in self.up_factors.items()
        }

    def to_edit(self, prefix: str = "lora") -> tuple[Edit, dict[str, TensorBlob]]:
        """Returns the LoRA as a ``low_rank`` edit with its tensors for the erasure's file."""
        names = {
            f"{name}.{end}": f"{prefix}.{self.group.component}.{name}.{end}"
            for name in self.up_factors
            for end in ("down", "up")
        }
        tensors = {names[role]: to_blob(tensor) for role, tensor in self.trainable_params.items()}
        return Edit(self.group.component, "low_rank", names), tensors


TrainedLora = LoraAdapter | InsertedStudent
"""A LoRA in training."""


@contextmanager
def trained_lora(model: EditableModel, role: str, rank: int, generator: torch.Generator) -> Iterator[TrainedLora]:
    """A LoRA beside a frozen denoiser: in replaced weights, or in hooks where the denoiser is quantized.

    Both draw the same A and compute the same sum; `to_edit` returns the same kind of edit.
    """
    if not any(map(has_quantized_layers, model.components.values())):
        yield LoraAdapter(model, role, rank, generator)
        return
    with InsertedStudent.membranes(model, role, rank, generator, Insertion("membrane"), init="lora") as student:
        yield student
