"""Finds a language model's decoder layers, their MLPs and their parameters by role, whatever the architecture."""

from __future__ import annotations

import re

from torch import Tensor, nn

from efface.core.errors import EffaceError, UnknownNameError
from efface.core.manifest import LANGUAGE_COMPONENT as COMPONENT

from .parameter_groups import ParameterGroup
from .tensor_names import canonical_name

MLP_NAMES = ("mlp", "feed_forward")
MLP_OUTPUTS = ("down_proj", "c_proj", "fc2", "dense_4h_to_h", "w2")
"""Names of the output matrix of an MLP: Llama, Mistral, Qwen and Gemma; GPT-2; Phi; GPT-NeoX."""
ATTENTION_NAMES = ("self_attn", "attn", "attention")
ROLES = ("mlp_out", "mlp", "attn", "attn_mlp", "layers")
_ROLE = re.compile(r"(?P<role>\w+)(?::(?P<first>\d+)(?:-(?P<last>\d+))?)?")


def decoder_layers(module: nn.Module) -> tuple[str, nn.ModuleList]:
    """Returns the path and the list of the decoder layers.

    Raises:
        EffaceError: no list of layers with an MLP and attention.
    """
    for path, child in module.named_modules():
        if isinstance(child, nn.ModuleList) and len(child):
            names = dict(child[0].named_children())
            if any(name in names for name in MLP_NAMES) and any(name in names for name in ATTENTION_NAMES):
                return path, child
    raise EffaceError(
        f"{type(module).__name__} has no decoder layers with an MLP and attention that efface knows: "
        "give a model in the shape of Llama, Mistral, Qwen, Gemma or GPT-2"
    )


def mlp_output(layer: nn.Module) -> nn.Module:
    """Returns the module that holds the output matrix of a layer's MLP.

    Raises:
        EffaceError: the layer's MLP has no module of that kind.
    """
    mlp = next(getattr(layer, name) for name in MLP_NAMES if hasattr(layer, name))
    for name in MLP_OUTPUTS:
        if isinstance(getattr(mlp, name, None), nn.Module):
            return getattr(mlp, name)  # type: ignore[no-any-return]
    raise EffaceError(f"{type(mlp).__name__} has no output matrix named {', '.join(MLP_OUTPUTS)}")


def neuron_rows(output: nn.Module) -> Tensor:
    """Returns the output vectors of an MLP's neurons, ``(d_mlp, d_model)``; a view of the weight."""
    weight: Tensor = output.weight  # type: ignore[assignment]
    return weight if type(output).__name__ == "Conv1D" else weight.T


def select_role(module: nn.Module, role: str) -> ParameterGroup:
    """Selects the parameters of a role of the decoder layers.

    Args:
        module: the language model.
        role: one of `ROLES`, with a range of layers if wanted: ``attn_mlp:4-7``, ``mlp_out:3``.

    Raises:
        UnknownNameError: there is no such role.
        EffaceError: a layer that does not exist.
    """
    match = _ROLE.fullmatch(role)
    if match is None or match["role"] not in ROLES:
        raise UnknownNameError("role of a language model", role, ROLES)
    prefix, layers = decoder_layers(module)
    first = int(match["first"] or 0)
    last = int(match["last"] or match["first"] or len(layers) - 1)
    if not first <= last < len(layers):
        raise EffaceError(f"role {role!r} names layer {last}; the model has layers 0 to {len(layers) - 1}")
    parameters: dict[str, nn.Parameter] = {}
    paths: dict[str, str] = {}
    for path, parameter in module.named_parameters():
        inside = path.removeprefix(f"{prefix}.")
        number, _, rest = inside.partition(".")
        if path.startswith(f"{prefix}.") and first <= int(number) <= last and _has_role(rest, match["role"]):
            parameters[canonical_name(path)] = parameter
            paths[canonical_name(path)] = path
    return ParameterGroup(role, (COMPONENT,), parameters, paths)


def _has_role(name: str, role: str) -> bool:
    """Tells whether a parameter of a layer, such as ``mlp.down_proj.weight``, has a role."""
    levels = name.split(".")
    in_mlp, in_attention = levels[0] in MLP_NAMES, levels[0] in ATTENTION_NAMES
    if role == "mlp_out":
        return in_mlp and levels[-2] in MLP_OUTPUTS and levels[-1] == "weight"
    return {"mlp": in_mlp, "attn": in_attention, "attn_mlp": in_mlp or in_attention, "layers": True}[role]
