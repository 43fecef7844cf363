"""Parameters by role: what a method trains or edits, named by its function and never by a substring.

Roles of the UNet:

- ``cross_kv`` (alias ``reads_text``), ``cross_k``, ``cross_v``, ``cross_q``, ``cross_qk``, ``cross_out``: projections of the attention
  to the text.
- ``cross_all``: Linear and convolution tensors below that attention (esd-x), ``self_attn`` of the other, ``attn_all`` of both.
- ``non_cross``: Linear and convolution tensors outside of the attention to the text (esd-u).
- ``unet_linear``: all Linear and convolution tensors (esd-all); ``unet_all``: every parameter, norms too.

Of a transformer (SD3, FLUX, PixArt): ``reads_text``, the one layer that reads a prompt's states as the text encoder gives them, and
``reads_pooled``, the one that reads the pooled state; all others see states that change with the image.

Roles of the text encoder: ``text_mlp``, ``text_attn``, ``text_layers`` (whole layers), each also for some layers only, as in
``text_mlp:0-3,last``; ``text_all`` (everything but the embeddings), ``token_embedding``. Roles of one component are joined by ``+``, as in
``text_mlp+text_attn:last``. A model with two text encoders (SDXL) has a text role in both, trained together; ``text_encoder_2/text_mlp``
is the role in one of them. ESD (Gandikota et al. 2023, arXiv 2303.07345) trains weights and biases of Linear and convolution layers only,
so that norms are in no role but ``unet_all``, ``text_layers`` and ``text_all``.

What a model never reads is in no role: SDXL takes the states before the last layer of both encoders, and nothing else of the first, so
that the last layer of ``text_encoder`` and the norm behind it would get no gradient, and ``last`` means the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from efface.core.errors import EffaceError, UnknownNameError

from .tensor_names import canonical_paths

TEXT_ENCODER_2 = "text_encoder_2"
"""The component whose parameters go by qualified names; those of every other component go by their own."""


def qualified_names(component: str, name: str) -> str:
    """A parameter's name among those of all text encoders, as ``params`` of `encode` takes it."""
    return f"{TEXT_ENCODER_2}.{name}" if component == TEXT_ENCODER_2 else name


def component_params(params: Mapping[str, Tensor], component: str) -> dict[str, Tensor]:
    """Those of the tensors that are a component's, by the component's own names."""
    if component == TEXT_ENCODER_2:
        return {
            name.removeprefix(f"{TEXT_ENCODER_2}."): tensor
            for name, tensor in params.items()
            if name.startswith(f"{TEXT_ENCODER_2}.")
        }
    return {name: tensor for name, tensor in params.items() if not name.startswith(f"{TEXT_ENCODER_2}.")}


@dataclass(frozen=True)
class ParameterGroup:
    """The parameters of one role.

    Attributes:
        role: as it was asked for.
        components: where they are, such as ``unet``, or both text encoders.
        parameters: by canonical name (`qualified` for the second text encoder), in the model's order; the model's own, not copies.
        paths: from that name to the one that ``params`` takes: the name within the component, qualified alike.
    """

    role: str
    components: tuple[str, ...]
    parameters: Mapping[str, nn.Parameter]
    paths: Mapping[str, str]

    @property
    def component(self) -> str:
        """The first component; the only one but for text roles of a model with two text encoders."""
        return self.components[0]

    def own(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors by canonical name as the ``params`` that `encode` and `predict` take."""
        return {self.paths[name]: tensor for name, tensor in tensors.items()}


@dataclass(frozen=True)
class _Site:
    """One parameter as the rules below see it: the levels of its name, and whether its layer is Linear or a convolution."""

    parts: tuple[str, ...]
    linear: bool

    def below(self, *levels: str) -> bool:
        return any(level in self.parts for level in levels)

    @property
    def layer(self) -> int:
        return int(self.parts[self.parts.index("layers") + 1]) if "layers" in self.parts else -1


_Rule = Callable[[_Site], bool]

_UNET: dict[str, _Rule] = {
    "cross_kv": lambda s: s.linear and s.below("attn2") and s.below("to_k", "to_v"),
    "cross_k": lambda s: s.linear and s.below("attn2") and s.below("to_k"),
    "cross_v": lambda s: s.linear and s.below("attn2") and s.below("to_v"),
    "reads_text": lambda s: s.linear and s.below("attn2") and s.below("to_k", "to_v"),
    "cross_q": lambda s: s.linear and s.below("attn2") and s.below("to_q"),
    "cross_qk": lambda s: s.linear and s.below("attn2") and s.below("to_q", "to_k"),
    "cross_out": lambda s: s.linear and s.below("attn2") and s.below("to_out"),
    "cross_all": lambda s: s.linear and s.below("attn2"),
    "self_attn": lambda s: s.linear and s.below("attn1"),
    "attn_all": lambda s: s.linear and s.below("attn1", "attn2"),
    "non_cross": lambda s: s.linear and not s.below("attn2"),
    "unet_linear": lambda s: s.linear,
    "unet_all": lambda _: True,
}
_LAYERED: dict[str, _Rule] = {
    "text_mlp": lambda s: s.layer >= 0 and s.below("mlp"),
    "text_attn": lambda s: s.layer >= 0 and s.below("self_attn"),
    "text_layers": lambda s: s.layer >= 0,
}
_TEXT: dict[str, _Rule] = {
    **_LAYERED,
    "text_all": lambda s: not s.below("embeddings"),
    "token_embedding": lambda s: s.below("token_embedding"),
}
_TRANSFORMER: dict[str, _Rule] = {
    "reads_text": lambda s: (
        s.parts[-1] == "weight"
        and (s.parts[0] == "context_embedder" or s.parts[:2] == ("caption_projection", "linear_1"))
    ),
    "reads_pooled": lambda s: s.parts[-1] == "weight" and s.parts[-3:-1] == ("text_embedder", "linear_1"),
}
ROLES = (*_UNET, *_TEXT)


def select_parameters(components: Mapping[str, nn.Module], role: str, cut: Collection[str] = ()) -> ParameterGroup:
    """The parameters of a role (see the module's text for the roles).

    Args:
        components: the model's, by name.
        role: what to select.
        cut: text encoders of which nothing behind the last layer but one is read.

    Raises:
        UnknownName: no such role.
        EffaceError: roles of UNet and text encoder joined, a component or layers that are not there, or a role that selects nothing.
    """
    wanted: dict[str, dict[str, _Rule]] = {}
    for part in role.split("+"):
        place, rule, layers = _read(part.strip(), components)
        for component in place:
            wanted.setdefault(component, {})[layers] = _either(wanted.get(component, {}).get(layers), rule)
    if "unet" in wanted and len(wanted) > 1:
        raise EffaceError(f"role {role!r} joins text encoder and UNet: train each as a student of its own")
    parameters: dict[str, nn.Parameter] = {}
    paths: dict[str, str] = {}
    for component in sorted(wanted):
        own, found = (
            dict(components[component].named_parameters()),
            _sites(components[component], wanted[component], component in cut),
        )
        if not found:
            raise EffaceError(f"role {role!r} selects nothing in this model's {component}")
        parameters |= {qualified_names(component, name): own[path] for name, path in found.items()}
        paths |= {qualified_names(component, name): qualified_names(component, path) for name, path in found.items()}
    return ParameterGroup(role, tuple(sorted(wanted)), parameters, paths)


def _read(part: str, components: Mapping[str, nn.Module]) -> tuple[list[str], _Rule, str]:
    """The components that one part of a role is about, its rule, and its layers as text."""
    place, slash, rest = part.rpartition("/")
    name, _, layers = rest.partition(":")
    if name not in (*ROLES, *_TRANSFORMER):
        raise UnknownNameError("role", name, ROLES)
    if layers and name not in _LAYERED:
        raise EffaceError(f"role {name!r} takes no layers; {', '.join(_LAYERED)} do")
    if "transformer" in components and name not in _TEXT:
        if name not in _TRANSFORMER:
            raise EffaceError(
                f"role {name!r}: a transformer mixes the text into what it draws; fixed states are read by reads_text alone"
            )
        return ["transformer"], _TRANSFORMER[name], ""
    there = (
        ["unet"]
        if name in (*_UNET, *_TRANSFORMER)
        else [component for component in ("text_encoder", TEXT_ENCODER_2) if component in components]
    )
    if slash and place not in there:
        raise EffaceError(f"role {part!r}: {name} is in {' and '.join(there)}, not in {place!r}")
    return [place] if slash else there, (_TRANSFORMER | _UNET | _TEXT)[name], layers


def _either(one: _Rule | None, other: _Rule) -> _Rule:
    return other if one is None else lambda site: one(site) or other(site)


def _sites(module: nn.Module, rules: Mapping[str, _Rule], cut: bool) -> dict[str, str]:
    """From canonical name to the module's own, of the parameters that any of the rules selects in the layers that it goes by."""
    paths = canonical_paths(module)
    linear = {name for name, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd)}
    sites = {name: _Site(tuple(name.split(".")), path.rpartition(".")[0] in linear) for name, path in paths.items()}
    count = 1 + max((site.layer for site in sites.values()), default=-1) - cut
    if cut:
        sites = {
            name: site for name, site in sites.items() if site.layer < count and not site.below("final_layer_norm")
        }
    wanted = [(rule, _layers(layers, count)) for layers, rule in rules.items()]
    return {
        name: paths[name]
        for name, site in sites.items()
        if any(rule(site) and site.layer in layers for rule, layers in wanted)
    }


def _layers(text: str, count: int) -> Container[int]:
    """The layers that ``0-3,last`` names, and all (-1 is outside of them) for no text; compared as numbers, so that 1 is not 10."""
    if not text:
        return range(-1, count)
    chosen: set[int] = set()
    for part in text.replace("last", str(count - 1)).split(","):
        first, _, final = part.partition("-")
        if not (first.strip().isdecimal() and (final or first).strip().isdecimal()):
            raise EffaceError(f"layers {text!r} cannot be read: write numbers such as '0-3,last'")
        chosen |= set(range(int(first), int(final or first) + 1))
    if not chosen or max(chosen) >= count:
        raise EffaceError(f"layers {text!r} are not all there: the text encoder has layers 0 to {count - 1}")
    return chosen
