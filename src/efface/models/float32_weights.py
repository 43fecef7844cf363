"""Weights in float32 of a model that computes in half precision, from its own files where they hold them.

A model that is loaded in bfloat16 has rounded weights. Closed-form methods solve for an edit of the unrounded ones:
they read them again from the files, tensor by tensor. Where a tensor in memory is not the rounded one of the file,
because it was edited or the model came without files, the one in memory is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import Tensor, nn

from .checkpoint_family import TEXT_ENCODER_PREFIXES
from .component_weights import find_weights
from .original_layout import unet_tensors
from .original_text_encoder import canonical_tensors
from .parameter_groups import ParameterGroup, qualified_name
from .tensor_names import canonical_name, canonical_paths


class WeightSource(Protocol):
    """The files that a model's weights came from."""

    def read(self, component: str, module: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
        """Reads tensors of a component by canonical name, on the CPU; names that the files lack are left out."""
        ...


class FolderSource:
    """A pipeline in diffusers layout.

    Args:
        folders: folder by component.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = dict(folders)

    def read(self, component: str, module: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
        """Reads tensors of a component by canonical name."""
        folder, wanted = self._folders.get(component), set(names)
        weights = find_weights(folder) if folder is not None else None
        found: dict[str, Tensor] = {}
        for path in weights.files if weights else ():
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    if canonical_name(name) in wanted:
                        found[canonical_name(name)] = file.get_tensor(name)
        return found


class CheckpointSource:
    """A checkpoint in one file.

    Args:
        path: the file.
        family: ``sd1``, ``sd2`` or ``sdxl``.
    """

    def __init__(self, path: Path, family: str) -> None:
        self._path, self._family = path, family

    def read(self, component: str, module: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
        """Reads tensors of the denoiser or a text encoder by canonical name."""
        wanted = set(names)
        with safe_open(self._path, framework="pt") as file:
            stored = set(file.keys())
            if component == "unet":
                originals = zip(unet_tensors(module), module.state_dict(), strict=True)
                pairs = [(original, canonical_name(name)) for original, name in originals]
                return {name: file.get_tensor(key) for key, name in pairs if name in wanted and key in stored}
            prefixes = TEXT_ENCODER_PREFIXES[self._family].get(component, ())
            prefix = next((prefix for prefix in prefixes if any(key.startswith(prefix) for key in stored)), None)
            if prefix is None:
                return {}
            own = {key.removeprefix(prefix): file.get_tensor(key) for key in stored if key.startswith(prefix)}
        return {name: tensor for name, tensor in canonical_tensors(own).items() if name in wanted}


@torch.no_grad()
def float32_tensors(model: Any, component: str, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Returns parameters of a component in float32 by canonical name, on the model's device.

    Args:
        model: the model; its ``weight_source`` is read if it has one.
        component: such as ``text_encoder``.
        names: canonical names; all by default.
    """
    module: nn.Module = model.components[component]
    paths = canonical_paths(module)
    own = {name: module.get_parameter(paths[name]) for name in (paths if names is None else names)}
    source: WeightSource | None = getattr(model, "weight_source", None)
    stored = source.read(component, module, own) if source is not None else {}
    result: dict[str, Tensor] = {}
    for name, parameter in own.items():
        tensor = stored.get(name)
        is_original = tensor is not None and tensor.shape == parameter.shape
        if tensor is not None and is_original:
            tensor = tensor.to(parameter.device)
            is_original = torch.equal(tensor.to(parameter.dtype), parameter)
        result[name] = tensor.float() if tensor is not None and is_original else parameter.detach().float()
    return result


def float32_group(model: Any, role: str) -> ParameterGroup:
    """Returns a model's parameter group, with float32 copies in place of parameters in half precision."""
    group: ParameterGroup = model.parameter_group(role)
    if all(parameter.dtype.itemsize >= 4 for parameter in group.parameters.values()):
        return group
    parameters: dict[str, nn.Parameter] = {}
    for component in group.components:
        prefix = qualified_name(component, "")
        others = [qualified_name(other, "") for other in group.components if other != component]
        own = [n for n in group.parameters if n.startswith(prefix) and not any(o and n.startswith(o) for o in others)]
        tensors = float32_tensors(model, component, [name.removeprefix(prefix) for name in own])
        for name in own:
            parameters[name] = nn.Parameter(tensors[name.removeprefix(prefix)], requires_grad=False)
    ordered = {name: parameters[name] for name in group.parameters}
    return ParameterGroup(group.role, group.components, ordered, group.paths)


def float32_text_params(model: Any) -> dict[str, Tensor]:
    """Returns ``params`` with which `encode` computes in float32; empty for a model that does so by itself."""
    params: dict[str, Tensor] = {}
    for component in (name for name in model.components if name.startswith("text_encoder")):
        module: nn.Module = model.components[component]
        if all(parameter.dtype.itemsize >= 4 for parameter in module.parameters()):
            continue
        paths = canonical_paths(module)
        tensors = float32_tensors(model, component)
        params |= {qualified_name(component, paths[name]): tensor for name, tensor in tensors.items()}
    return params
