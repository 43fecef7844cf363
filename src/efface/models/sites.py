"""Parameters by role: what a method trains or edits, named by its function and never by a substring.

Roles of the UNet (Stable Diffusion 1 and 2):

- ``cross_kv`` (alias ``reads_text``), ``cross_k``, ``cross_v``, ``cross_q``, ``cross_qk``, ``cross_out``: projections of the attention
  to the text.
- ``cross_all``: Linear and convolution tensors below that attention (esd-x), ``self_attn`` of the other, ``attn_all`` of both.
- ``non_cross``: Linear and convolution tensors outside of the attention to the text (esd-u).
- ``unet_linear``: all Linear and convolution tensors (esd-all); ``unet_all``: every parameter, norms too.

Roles of the text encoder: ``text_mlp``, ``text_attn``, ``text_layers`` (whole layers), each also for some layers only, as in
``text_mlp:0-3,last``; ``text_all`` (everything but the embeddings), ``token_embedding``. Roles of one component are joined by ``+``, as in
``text_mlp+text_attn:last``. ESD (Gandikota et al. 2023, arXiv 2303.07345) trains weights and biases of Linear and convolution
layers only, so that norms are in no role but ``unet_all``, ``text_layers`` and ``text_all``.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from efface.core.errors import EffaceError, UnknownName

from .names import canonical_paths


@dataclass(frozen=True)
class Sites:
    """The parameters of one role.

    Attributes:
        role: as it was asked for.
        component: where they are, such as ``unet``.
        parameters: by canonical name, in the module's order; the model's own, not copies.
        paths: from canonical name to the name within the component.
    """

    role: str
    component: str
    parameters: Mapping[str, nn.Parameter]
    paths: Mapping[str, str]

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
ROLES = (*_UNET, *_TEXT)


def select(components: Mapping[str, nn.Module], role: str) -> Sites:
    """The parameters of a role (see the module's text for the roles).

    Raises:
        UnknownName: no such role.
        EffaceError: roles of two components joined, layers that are not there, or a role that selects nothing in this model.
    """
    found: dict[str, _Rule] = {}
    places = set()
    for part in role.split("+"):
        name, _, layers = part.strip().partition(":")
        if name not in ROLES:
            raise UnknownName("role", name, ROLES)
        if layers and name not in _LAYERED:
            raise EffaceError(f"role {name!r} takes no layers; {', '.join(_LAYERED)} do")
        places.add("unet" if name in _UNET else "text_encoder")
        found[part] = _UNET.get(name) or _TEXT[name]
    if len(places) > 1:
        raise EffaceError(f"role {role!r} joins text encoder and UNet: train each as a student of its own")
    component = places.pop()
    return _sites(components[component], component, role, found)


def _sites(module: nn.Module, component: str, role: str, rules: Mapping[str, _Rule]) -> Sites:
    own = dict(module.named_parameters())
    paths = canonical_paths(module)
    linear = {name for name, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd)}
    sites = {name: _Site(tuple(name.split(".")), path.rpartition(".")[0] in linear) for name, path in paths.items()}
    count = 1 + max((site.layer for site in sites.values()), default=-1)
    wanted = [(rule, _layers(part.partition(":")[2], count)) for part, rule in rules.items()]
    chosen = [name for name, site in sites.items() if any(rule(site) and site.layer in layers for rule, layers in wanted)]
    if not chosen:
        raise EffaceError(f"role {role!r} selects nothing in this model's {component}")
    return Sites(role, component, {name: own[paths[name]] for name in chosen}, {name: paths[name] for name in chosen})


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
