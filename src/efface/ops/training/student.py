"""The student: trained tensors beside a frozen model, which share one copy of all other tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from efface.core.edits import Edit
from efface.core.errors import EffaceError
from efface.core.tensors import TensorBlob
from efface.models.editable import EditableModel
from efface.models.parameter_groups import component_params
from efface.models.parameter_roles import TEXT_ENCODERS
from efface.models.protocol import Conditioning, Prediction, Tokens
from efface.models.soft_prompt import SoftTokens
from efface.ops.tensor_conversion import to_blob


class Student:
    """Trained copies of a role's parameters; the model itself is the frozen original and is never written to.

    The copies are float32 whatever the model computes in: in bfloat16 an Adam step of 5e-5 would be rounded away for
    every weight above 0.0156. They replace the original tensors through ``params`` of the model's `encode` and
    `predict` (``torch.func.functional_call``). Memory: 4 bytes a trained parameter, besides the gradient and the
    optimiser's state.

    Args:
        model: the original model.
        role: parameter group to train, such as ``cross_kv`` (see `efface.models.parameter_groups`).
    """

    def __init__(self, model: EditableModel, role: str) -> None:
        self.model = model
        self.group = model.parameter_group(role)
        self.trainable_params: dict[str, Tensor] = {
            name: original.detach().to(torch.float32, copy=True).requires_grad_(True)
            for name, original in self.group.parameters.items()
        }

    @property
    def component(self) -> str:
        """The trained component, such as ``unet``; the first if both text encoders are trained."""
        return self.group.component

    @property
    def trains_text(self) -> bool:
        """Whether text encoders are trained instead of the denoiser."""
        return self.component in TEXT_ENCODERS

    def parameters(self) -> list[Tensor]:
        """Returns the trained tensors, for the optimiser."""
        return list(self.trainable_params.values())

    def params(self) -> dict[str, Tensor]:
        """Returns the trained tensors in the model's dtype under the component's own names; gradients reach them."""
        return self.group.as_params(
            {name: tensor.to(self.group.parameters[name].dtype) for name, tensor in self.trainable_params.items()}
        )

    def encode(self, prompts: Sequence[str] | Tokens, *, soft: Tensor | SoftTokens | None = None) -> Conditioning:
        """Encodes prompts with the student; with the original if the text encoder is not trained."""
        return self.model.encode(prompts, soft=soft, params=self.params() if self.trains_text else None)

    def frozen_encoder(self) -> Callable[..., Conditioning]:
        """Returns `encode` with the present parameters fixed; gradients reach soft embeddings only."""
        params = {name: tensor.detach() for name, tensor in self.params().items()} if self.trains_text else None
        return partial(self.model.encode, params=params)

    def predict(self, z: Tensor, t: Tensor | float, cond: Conditioning) -> Prediction:
        """Runs the student's denoiser once; the original's if the denoiser is not trained."""
        return self.model.predict(z, t, cond, params=None if self.trains_text else self.params())

    @torch.no_grad()
    def delta(self) -> dict[str, Tensor]:
        """Returns trained minus original tensors, float32, by canonical name."""
        return {name: tensor - self.group.parameters[name].float() for name, tensor in self.trainable_params.items()}

    def replace_edits(self, dtype: torch.dtype = torch.float32) -> tuple[list[Edit], dict[str, TensorBlob]]:
        """Returns ``replace`` edits with the trained tensors, one edit a component, and the tensors for the file.

        Args:
            dtype: dtype of the saved tensors; float32 keeps every bit.
        """
        edits: list[Edit] = []
        blobs: dict[str, TensorBlob] = {}
        for component, tensors in self._by_component(self.trainable_params).items():
            blobs |= {f"{component}.{name}": to_blob(tensor.to(dtype)) for name, tensor in tensors.items()}
            edits.append(Edit(component, "replace", {name: f"{component}.{name}" for name in tensors}))
        return edits, blobs

    def replace_edit(self, dtype: torch.dtype = torch.float32) -> tuple[Edit, dict[str, TensorBlob]]:
        """`replace_edits` of a student that trains one component.

        Raises:
            EffaceError: the student trains two text encoders.
        """
        edits, blobs = self.replace_edits(dtype)
        if len(edits) > 1:
            raise EffaceError(
                f"{self.group.role!r} trains {' and '.join(self.group.components)}: one edit cannot hold both"
            )
        return edits[0], blobs

    def low_rank_edits(self, rank: int, dtype: torch.dtype = torch.float32) -> tuple[list[Edit], dict[str, TensorBlob]]:
        """Returns ``low_rank`` edits with the best rank-r approximation of the delta, one edit a component.

        The approximation is the truncated SVD (Eckart and Young 1936). A weight ``(o, i)`` or ``(o, i, h, w)`` gives
        ``down`` ``(r, i * h * w)`` and ``up`` ``(o, r)``; r is at most the smaller side.

        Raises:
            EffaceError: a trained tensor is not a matrix, such as a bias, which no low-rank edit can hold.
        """
        edits: list[Edit] = []
        blobs: dict[str, TensorBlob] = {}
        for component, deltas in self._by_component(self.delta()).items():
            tensor_names: dict[str, str] = {}
            for name, delta in deltas.items():
                if delta.ndim < 2:
                    raise EffaceError(
                        f"{name!r} is no matrix: save a replace edit, or train a role without biases such as cross_kv"
                    )
                u, s, v = torch.linalg.svd(delta.flatten(1).double(), full_matrices=False)
                root = s[:rank].sqrt()
                for end, factor in (("down", root[:, None] * v[:rank]), ("up", u[:, :rank] * root)):
                    tensor_names[f"{name}.{end}"] = f"{component}.{name}.{end}"
                    blobs[f"{component}.{name}.{end}"] = to_blob(factor.to(dtype))
            edits.append(Edit(component, "low_rank", tensor_names))
        return edits, blobs

    def low_rank_edit(self, rank: int, dtype: torch.dtype = torch.float32) -> tuple[Edit, dict[str, TensorBlob]]:
        """`low_rank_edits` of a student that trains one component, such as the denoiser."""
        edits, blobs = self.low_rank_edits(rank, dtype)
        return edits[0], blobs

    def _by_component(self, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Groups tensors by component, under their canonical name within it."""
        return {component: component_params(tensors, component) for component in self.group.components}
