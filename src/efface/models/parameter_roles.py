"""Roles of parameters: names for what a method trains or edits, by function and never by a substring.

Roles of the UNet:

- ``cross_kv`` (alias ``reads_text``), ``cross_k``, ``cross_v``, ``cross_q``, ``cross_qk``, ``cross_out``: projections
  of cross-attention.
- ``cross_all``: Linear and convolution tensors in cross-attention (esd-x); ``self_attn`` in self-attention;
  ``attn_all`` in both; ``attn_blocks`` in whole attention blocks, with their feed-forward and outer projections (SPM).
- ``non_cross``: Linear and convolution tensors outside cross-attention (esd-u).
- ``unet_linear``: all Linear and convolution tensors (esd-all); ``unet_all``: every parameter, with the norms.

Roles of a transformer (SD3, FLUX): `efface.models.transformer_roles`.

Roles of the text encoder: ``text_mlp``, ``text_attn``, ``text_layers`` (whole layers), each also for some layers
only, as in ``text_mlp:0-3,last``; ``text_all`` (everything but the embeddings); ``token_embedding``. The sign ``+``
joins roles of one component, as in ``text_mlp+text_attn:last``. A model with several text encoders (SDXL, SD3, FLUX)
has a text role in all of them, trained together; ``text_encoder_2/text_mlp`` is the role in one of them. ESD
(Gandikota et al. 2023, arXiv 2303.07345) trains weights and biases of Linear and convolution layers only, so that norms
are in no role but ``unet_all``, ``text_layers`` and ``text_all``.

No role holds a parameter that the model never reads. SDXL takes the states before the last layer of both encoders,
and nothing else of the first encoder. The last layer of ``text_encoder`` and the norm after it would get no gradient,
so ``last`` means the layer before.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass

from torch import nn

from efface.core.errors import EffaceError, UnknownNameError

from .role_rules import NamedParameter, Rule, linear_below
from .tensor_names import canonical_paths
from .transformer_roles import TRANSFORMER

TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


_UNET: dict[str, Rule] = {
    "cross_kv": linear_below(("attn2",), ("to_k", "to_v")),
    "cross_k": linear_below(("attn2",), ("to_k",)),
    "cross_v": linear_below(("attn2",), ("to_v",)),
    "reads_text": linear_below(("attn2",), ("to_k", "to_v")),
    "cross_q": linear_below(("attn2",), ("to_q",)),
    "cross_qk": linear_below(("attn2",), ("to_q", "to_k")),
    "cross_out": linear_below(("attn2",), ("to_out",)),
    "cross_all": linear_below(("attn2",)),
    "self_attn": linear_below(("attn1",)),
    "attn_all": linear_below(("attn1", "attn2")),
    "attn_blocks": linear_below(("attentions",)),
    "non_cross": lambda p: p.linear and not p.below("attn2"),
    "unet_linear": lambda p: p.linear,
    "unet_all": lambda _: True,
}
_LAYERED: dict[str, Rule] = {
    "text_mlp": lambda p: p.layer >= 0 and p.below("mlp", "DenseReluDense"),
    "text_attn": lambda p: p.layer >= 0 and p.below("self_attn", "SelfAttention"),
    "text_layers": lambda p: p.layer >= 0,
}
_TEXT: dict[str, Rule] = {
    **_LAYERED,
    "text_all": lambda p: not p.below("embeddings", "shared"),
    "token_embedding": lambda p: p.below("token_embedding", "shared"),
}
ROLES = (*_UNET, *_TEXT)


@dataclass(frozen=True)
class RolePart:
    """One role between two ``+`` signs.

    Attributes:
        components: names of the components that hold it.
        rule: whether it holds a parameter.
        layers: its layers as text, such as ``0-3,last``; empty for all.
    """

    components: tuple[str, ...]
    rule: Rule
    layers: str


def parse_role_part(text: str, components: Mapping[str, nn.Module]) -> RolePart:
    """Reads one role, such as ``text_encoder_2/text_mlp:0-3``.

    Args:
        text: the role between two ``+`` signs.
        components: the model's, by name.

    Raises:
        UnknownNameError: there is no such role.
        EffaceError: the role takes no layers, or is not in the named component or in the denoiser.
    """
    component, slash, rest = text.rpartition("/")
    name, _, layers = rest.partition(":")
    if name not in (*ROLES, *TRANSFORMER):
        raise UnknownNameError("role", name, dict.fromkeys((*ROLES, *TRANSFORMER)))
    if layers and name not in _LAYERED:
        raise EffaceError(f"role {name!r} takes no layers; {', '.join(_LAYERED)} do")
    denoiser, rules = ("transformer", TRANSFORMER) if "transformer" in components else ("unet", _UNET)
    if name not in (*rules, *_TEXT):
        raise EffaceError(f"role {name!r} is not in a {denoiser}, which has {', '.join(rules)}")
    present: tuple[str, ...] = (denoiser,)
    if name in _TEXT:
        present = tuple(encoder for encoder in TEXT_ENCODERS if encoder in components)
    if slash and component not in present:
        raise EffaceError(f"role {text!r}: {name} is in {' and '.join(present)}, not in {component!r}")
    return RolePart((component,) if slash else present, (rules | _TEXT)[name], layers)


def select_paths(module: nn.Module, parts: list[RolePart], skip_last_layer: bool) -> dict[str, str]:
    """Selects the parameters of a component that any of the role's parts holds.

    Args:
        module: the component.
        parts: of the role, those that the component holds.
        skip_last_layer: whether the model reads nothing of the last layer and the norm after it.

    Returns:
        From canonical name to the module's own name, in the module's order.

    Raises:
        EffaceError: layers cannot be read or do not exist.
    """
    paths = canonical_paths(module)
    linear = {name for name, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd)}
    parameters = {
        name: NamedParameter(tuple(name.split(".")), path.rpartition(".")[0] in linear) for name, path in paths.items()
    }
    num_layers = 1 + max((p.layer for p in parameters.values()), default=-1) - skip_last_layer
    if skip_last_layer:
        parameters = {
            name: p for name, p in parameters.items() if p.layer < num_layers and not p.below("final_layer_norm")
        }
    conditions = [(part.rule, _parse_layers(part.layers, num_layers)) for part in parts]
    return {
        name: paths[name]
        for name, p in parameters.items()
        if any(rule(p) and p.layer in layers for rule, layers in conditions)
    }


def _parse_layers(text: str, num_layers: int) -> Container[int]:
    """Returns the layers that a text such as ``0-3,last`` names; for no text all, and -1 for outside of layers."""
    if not text:
        return range(-1, num_layers)
    layers: set[int] = set()
    for part in text.replace("last", str(num_layers - 1)).split(","):
        first, _, final = part.partition("-")
        if not (first.strip().isdecimal() and (final or first).strip().isdecimal()):
            raise EffaceError(f"layers {text!r} cannot be read: write numbers such as '0-3,last'")
        layers |= set(range(int(first), int(final or first) + 1))
    if not layers or max(layers) >= num_layers:
        raise EffaceError(f"layers {text!r} do not all exist: the text encoder has layers 0 to {num_layers - 1}")
    return layers
