"""Modules that are trained beside a frozen model, inserted by the hooks that apply the finished erasure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from efface.core.edits import Edit
from efface.core.errors import EffaceError
from efface.core.tensors import TensorBlob
from efface.models.editable import EditableModel
from efface.models.pipeline_parts import denoiser_name
from efface.models.protocol import Conditioning, Prediction, Tokens
from efface.models.quantization import matrix_group, matrix_shape
from efface.models.recomputation import recomputes_in
from efface.models.tensor_names import canonical_name
from efface.ops.editing.module_edits import insert
from efface.ops.editing.row_strengths import Insertion
from efface.ops.tensor_conversion import to_blob


class InsertedStudent:
    """A model with trained modules at some layers of its denoiser; the model is never written to.

    Use it as a context: the modules are inserted while it is open, and act in its `predict` alone.

    Args:
        model: the original model.
        insertion: kind and settings of the modules.
        tensors: initial tensors by layer path and by the kind's names; they are trained in float32.

    Attributes:
        component: name of the denoiser.
    """

    trains_text = False

    def __init__(self, model: EditableModel, insertion: Insertion, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.model = model
        self.insertion = insertion
        self.component = denoiser_name(model.components)
        self._component: Any = model.components[self.component]
        self._layers = {
            path: {end: tensor.to(model.device).requires_grad_(True) for end, tensor in own.items()}
            for path, own in tensors.items()
        }
        self._stack = ExitStack()

    @classmethod
    def membranes(
        cls, model: EditableModel, role: str, rank: int, generator: torch.Generator, insertion: Insertion,
        *, init: str = "kaiming",
    ) -> InsertedStudent:  # fmt: skip
        """Creates a LoRA at every matrix of a role: ``up`` is zero, so that the model is unchanged.

        Args:
            model: the original model.
            role: parameter group; its biases have no membrane.
            rank: rank of every membrane.
            generator: draws ``down``, on the CPU.
            insertion: settings of the modules.
            init: ``kaiming`` draws ``down`` uniformly up to 1 / sqrt(inputs) (SPM), ``normal`` with variance 1 / rank,
                ``lora`` with variance 1 / rank^2.

        Raises:
            EffaceError: a rank below 1, or a role without matrices.
        """
        group = matrix_group(model, role)
        component = model.components[group.component]
        matrices = {name: weight for name, weight in group.parameters.items() if weight.ndim > 1}
        if rank < 1 or not matrices:
            raise EffaceError(f"membranes of rank {rank} at {role} train nothing: set a rank of 1 or more")
        tensors: dict[str, dict[str, Tensor]] = {}
        for name, weight in matrices.items():
            path = group.paths[name].removesuffix(".weight")
            outputs, *inputs = matrix_shape(component.get_submodule(path), weight)
            shape = (rank, *inputs)
            bound = 1 / math.sqrt(math.prod(inputs))
            if init == "kaiming":
                down = (2 * torch.rand(shape, generator=generator) - 1) * bound
            else:
                down = torch.randn(shape, generator=generator) / (rank if init == "lora" else math.sqrt(rank))
            tensors[path] = {"down": down, "up": torch.zeros(outputs, rank)}
        return cls(model, insertion, tensors)

    @classmethod
    def erasers(cls, model: EditableModel, width: int, generator: torch.Generator) -> InsertedStudent:
        """Creates an eraser behind every cross-attention layer; its last matrix is zero, so that nothing changes.

        Args:
            model: the original model.
            width: width of an eraser's hidden layer.
            generator: draws the first matrix and its bias as torch does, on the CPU.
        """
        group = model.parameter_group("cross_q")
        tensors: dict[str, dict[str, Tensor]] = {}
        for path in group.paths.values():
            layer = path.rsplit(".", 2)[0]
            to_out: Any = model.components[group.component].get_submodule(f"{layer}.to_out.0")
            channels = to_out.out_features
            down, bias = ((2 * torch.rand(*size, generator=generator) - 1) for size in ((width, channels), (width,)))
            bound = 1 / math.sqrt(channels)
            zeros = {"up.weight": torch.zeros(channels, width), "up.bias": torch.zeros(channels)}
            tensors[layer] = {"down.weight": down * bound, "down.bias": bias * bound, **zeros}
        return cls(model, Insertion("eraser"), tensors)

    def __enter__(self) -> InsertedStudent:
        insert(self._component, self.insertion, self._layers, self._stack)
        self.insertion.enabled = False
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    @property
    def trainable_params(self) -> dict[str, Tensor]:
        """Every trained tensor by ``<canonical layer name>.<tensor>``, for `Run.steps`."""
        return {
            f"{canonical_name(path)}.{end}": tensor for path, own in self._layers.items() for end, tensor in own.items()
        }

    def parameters(self) -> list[Tensor]:
        """Returns the trained tensors, for the optimiser."""
        return list(self.trainable_params.values())

    def encode(self, prompts: Sequence[str] | Tokens) -> Conditioning:
        """Encodes prompts with the original text encoder."""
        return self.model.encode(prompts)

    def predict(self, z: Tensor, t: Tensor | float, cond: Conditioning) -> Prediction:
        """Runs the denoiser with the modules once."""
        with recomputes_in(self._component, self._enabled), self._enabled():
            return self.model.predict(z, t, cond)

    @contextmanager
    def _enabled(self) -> Iterator[None]:
        """Lets the modules act in the body; gradient checkpointing opens it again while it computes gradients."""
        before, self.insertion.enabled = self.insertion.enabled, True
        try:
            yield
        finally:
            self.insertion.enabled = before

    def to_edit(self, prefix: str = "lora") -> tuple[Edit, dict[str, TensorBlob]]:
        """Returns membranes without a gate as a ``low_rank`` edit, as `LoraAdapter.to_edit` does."""
        names, tensors = {}, {}
        for path, own in self._layers.items():
            for end, tensor in own.items():
                role = f"{canonical_name(path)}.weight.{end}"
                names[role] = f"{prefix}.{self.component}.{role}"
                tensors[names[role]] = to_blob(tensor.detach())
        return Edit(self.component, "low_rank", names), tensors

    def module_edit(
        self, prefix: str, params: Mapping[str, Any], gate: Mapping[str, Any] | None = None
    ) -> tuple[Edit, dict[str, TensorBlob]]:
        """Returns the modules as a ``module`` edit with its tensors for the erasure's file.

        Args:
            prefix: first part of the tensors' names.
            params: settings besides the kind.
            gate: the edit's gate.
        """
        names = {role: f"{prefix}.{role}" for role in self.trainable_params}
        tensors = {names[role]: to_blob(tensor.detach()) for role, tensor in self.trainable_params.items()}
        return Edit(self.component, "module", names, gate or {}, {"kind": self.insertion.kind, **params}), tensors
