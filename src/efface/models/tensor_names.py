"""Canonical tensor names: one spelling per tensor, whatever library version or wrapper the model comes in.

transformers before 5 keeps CLIP's text tower below ``text_model.``, transformers 5 does not; torch.compile, data parallelism and old
training scripts put a level of their own before or between. Canonical names have none of these levels.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection

from torch import Tensor, nn

from efface.core.errors import EffaceError

_LEADING = frozenset({"model", "module", "base_model", "text_model", "text_encoder", "unet", "vae"})
_ANYWHERE = frozenset({"_orig_mod", "base_layer"})


def canonical_name(name: str) -> str:
    """A tensor's name without the levels that library versions and wrappers add."""
    parts = [part for part in name.split(".") if part not in _ANYWHERE]
    while len(parts) > 1 and parts[0] in _LEADING:
        parts.pop(0)
    return ".".join(parts)


def canonical_paths(module: nn.Module) -> dict[str, str]:
    """From canonical name to the module's own name, for every parameter, in the module's order.

    Raises:
        EffaceError: two parameters have one canonical name.
    """
    paths: dict[str, str] = {}
    for own, _ in module.named_parameters():
        name = canonical_name(own)
        if name in paths:
            raise EffaceError(f"{paths[name]!r} and {own!r} have the same canonical name: unwrap the model first")
        paths[name] = own
    return paths


def canonical_state(module: nn.Module) -> dict[str, Tensor]:
    """Every floating-point tensor of the module's state by canonical name, sorted; the tensors themselves, not copies."""
    state = {canonical_name(name): tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
    return dict(sorted(state.items()))


def resolve(name: str, known: Collection[str]) -> str:
    """The one of the known canonical names that a name in whatever spelling means.

    An equal canonical name is taken first, then the only one that ends in the other at a dot.

    Raises:
        EffaceError: none, or several; the message suggests the nearest.
    """
    wanted = canonical_name(name)
    if wanted in known:
        return wanted
    found = [item for item in known if item.endswith("." + wanted) or wanted.endswith("." + item)]
    if len(found) == 1:
        return found[0]
    if found:
        raise EffaceError(f"tensor {name!r} may be any of {', '.join(sorted(found)[:4])}: give its whole name")
    near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.0)
    raise EffaceError(f"the model has no tensor {name!r}{f'; the nearest is {near[0]!r}' if near else ''}")
