"""The student: trained tensors beside a frozen model, so that original and student share one copy of everything else."""

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
from efface.models.protocol import Conditioning, Prediction, Tokens
from efface.models.soft_prompt import SoftTokens
from efface.ops.tensor_conversion import to_blob


class Student:
    """Trained copies of a role's parameters; the model itself is the frozen original and is never written to.

    Masters are float32 whatever the model computes in: with bfloat16 ones an Adam step of 5e-5 would be rounded away for every weight
    above 0.0156. They are used through ``params`` of the model's `encode` and `predict` (``torch.func.functional_call``). Memory:
    4 bytes a trained parameter, beside the gradient and the optimiser's state.

    Args:
        model: the original.
        role: what to train, such as ``cross_kv`` (see `efface.models.parameter_groups`).
    """

    def __init__(self, model: EditableModel, role: str) -> None:
        self.model = model
        self.sites = model.parameter_group(role)
        self.masters: dict[str, Tensor] = {
            name: original.detach().to(torch.float32, copy=True).requires_grad_(True)
            for name, original in self.sites.parameters.items()
        }

    @property
    def component(self) -> str:
        """The component that is trained, such as ``unet``; the first where both text encoders are."""
        return self.sites.component

    @property
    def trains_text(self) -> bool:
        """Whether a text encoder is trained, or both are, and not the denoiser."""
        return self.component != "unet"

    def parameters(self) -> list[Tensor]:
        """The masters, for the optimiser."""
        return list(self.masters.values())

    def params(self) -> dict[str, Tensor]:
        """The masters in the model's dtype under the component's own names, for ``params=``; gradients reach the masters."""
        return self.sites.own(
            {name: master.to(self.sites.parameters[name].dtype) for name, master in self.masters.items()}
        )

    def encode(self, prompts: Sequence[str] | Tokens, *, soft: Tensor | SoftTokens | None = None) -> Conditioning:
        """Prompts to conditioning by the student; the original's where the text encoder is not trained."""
        return self.model.encode(prompts, soft=soft, params=self.params() if self.trains_text else None)

    def frozen_encoder(self) -> Callable[..., Conditioning]:
        """`encode` as it is now, with gradients to soft embeddings only."""
        fixed = {name: tensor.detach() for name, tensor in self.params().items()} if self.trains_text else None
        return partial(self.model.encode, params=fixed)

    def predict(self, z: Tensor, t: Tensor | int, cond: Conditioning) -> Prediction:
        """One pass of the student's denoiser; the original's where the denoiser is not trained."""
        return self.model.predict(z, t, cond, params=None if self.trains_text else self.params())

    @torch.no_grad()
    def delta(self) -> dict[str, Tensor]:
        """Master minus original, float32, by canonical name."""
        return {name: master - self.sites.parameters[name].float() for name, master in self.masters.items()}

    def replace_edits(self, dtype: torch.dtype = torch.float32) -> tuple[list[Edit], dict[str, TensorBlob]]:
        """The edits that put the masters in place of the original tensors, one a component, with their tensors for the artifact's file.

        Args:
            dtype: of the saved tensors; float32 keeps every bit.
        """
        edits, tensors = list[Edit](), dict[str, TensorBlob]()
        for component, masters in self._by_component(self.masters).items():
            tensors |= {f"{component}.{name}": to_blob(master.to(dtype)) for name, master in masters.items()}
            edits.append(Edit(component, "replace", {name: f"{component}.{name}" for name in masters}))
        return edits, tensors

    def replace_edit(self, dtype: torch.dtype = torch.float32) -> tuple[Edit, dict[str, TensorBlob]]:
        """`replace_edits` of a student that trains one component.

        Raises:
            EffaceError: it trains two text encoders.
        """
        edits, tensors = self.replace_edits(dtype)
        if len(edits) > 1:
            raise EffaceError(
                f"{self.sites.role!r} trains {' and '.join(self.sites.components)}: one edit cannot hold both"
            )
        return edits[0], tensors

    def low_rank_edits(self, rank: int, dtype: torch.dtype = torch.float32) -> tuple[list[Edit], dict[str, TensorBlob]]:
        """The edits, one a component, that add the best approximation of the delta of this rank (truncated SVD: Eckart and Young 1936).

        A weight ``(o, i)`` or ``(o, i, h, w)`` gives ``down`` ``(r, i * h * w)`` and ``up`` ``(o, r)``; r is at most the smaller side.

        Raises:
            EffaceError: a trained tensor that is no matrix, such as a bias, which no low-rank edit can hold.
        """
        edits, tensors = list[Edit](), dict[str, TensorBlob]()
        for component, deltas in self._by_component(self.delta()).items():
            roles: dict[str, str] = {}
            for name, delta in deltas.items():
                if delta.ndim < 2:
                    raise EffaceError(
                        f"{name!r} is no matrix: save a replace edit, or train a role without biases such as cross_kv"
                    )
                u, s, v = torch.linalg.svd(delta.flatten(1).double(), full_matrices=False)
                root = s[:rank].sqrt()
                for end, factor in (("down", root[:, None] * v[:rank]), ("up", u[:, :rank] * root)):
                    roles[f"{name}.{end}"] = f"{component}.{name}.{end}"
                    tensors[f"{component}.{name}.{end}"] = to_blob(factor.to(dtype))
            edits.append(Edit(component, "low_rank", roles))
        return edits, tensors

    def low_rank_edit(self, rank: int, dtype: torch.dtype = torch.float32) -> tuple[Edit, dict[str, TensorBlob]]:
        """`low_rank_edits` of a student that trains one component, such as the denoiser."""
        edits, tensors = self.low_rank_edits(rank, dtype)
        return edits[0], tensors

    def _by_component(self, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Tensors by canonical name within their component."""
        return {component: component_params(tensors, component) for component in self.sites.components}
