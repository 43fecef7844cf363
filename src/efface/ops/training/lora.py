"""A LoRA that is trained beside a frozen model, on its own weights or on edited ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from efface.core.edits import Edit
from efface.core.errors import EffaceError
from efface.core.tensors import TensorBlob
from efface.models.editable import EditableModel
from efface.models.protocol import Conditioning, Params, Prediction
from efface.ops.tensor_conversion import to_blob


class LoraAdapter:
    """W + B A for every matrix of a role (LoRA: Hu et al. 2021, arXiv 2106.09685); the model itself is never written to.

    Args:
        model: the original.
        role: which matrices; biases and other vectors of the role stay as they are.
        rank: r; A is ``(r, i)``, drawn with variance 1 / r^2 as in diffusers, B ``(o, r)`` and zero.
        generator: draws A, on the CPU.
        edited: tensors that stand in for the denoiser's, by their own name; W is the one here where there is one.

    Raises:
        EffaceError: a rank below 1, or a role without matrices.
    """

    def __init__(
        self, model: EditableModel, role: str, rank: int, generator: torch.Generator, edited: Params | None = None
    ) -> None:
        self.model, self.sites, self.edited = model, model.parameter_group(role), dict(edited or {})
        matrices = {name: w for name, w in self.sites.parameters.items() if w.ndim > 1}
        if rank < 1 or not matrices:
            raise EffaceError(
                f"a LoRA of rank {rank} of {role} trains nothing: set a rank of 1 or more, and a role with matrices"
            )
        self.downs: dict[str, Tensor] = {}
        self.ups: dict[str, Tensor] = {}
        for name, w in matrices.items():
            down = torch.randn(rank, w[0].numel(), generator=generator) / rank
            self.downs[name] = down.to(w.device).requires_grad_(True)
            self.ups[name] = torch.zeros(len(w), rank, device=w.device).requires_grad_(True)

    @property
    def trainable_params(self) -> dict[str, Tensor]:
        """Every A and B by name, float32, for a run's steps."""
        ups = {f"{name}.up": up for name, up in self.ups.items()}
        return {f"{name}.down": down for name, down in self.downs.items()} | ups

    def delta(self) -> dict[str, Tensor]:
        """B A by canonical name, in the shape of W; gradients reach A and B."""
        shapes = self.sites.parameters
        return {name: (up @ self.downs[name]).view_as(shapes[name]) for name, up in self.ups.items()}

    def params(self) -> dict[str, Tensor]:
        """What stands in for the denoiser's tensors, in their dtype and under their own names."""
        now = dict(self.edited)
        for name, delta in self.delta().items():
            path, original = self.sites.paths[name], self.sites.parameters[name]
            now[path] = (self.edited.get(path, original) + delta).to(original.dtype)
        return now

    def predict(self, z: Tensor, t: Tensor | int, cond: Conditioning) -> Prediction:
        """One pass of the denoiser with the LoRA."""
        return self.model.predict(z, t, cond, params=self.params())

    @torch.no_grad()
    def factors(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """B and A of every matrix, float64, on the CPU."""
        return {name: (up.double().cpu(), self.downs[name].double().cpu()) for name, up in self.ups.items()}

    def edit(self, prefix: str = "lora") -> tuple[Edit, dict[str, TensorBlob]]:
        """The LoRA as an edit, with its tensors for the artifact's file."""
        names = {
            f"{name}.{end}": f"{prefix}.{self.sites.component}.{name}.{end}"
            for name in self.ups
            for end in ("down", "up")
        }
        return Edit(self.sites.component, "low_rank", names), {
            names[key]: to_blob(tensor) for key, tensor in self.trainable_params.items()
        }
