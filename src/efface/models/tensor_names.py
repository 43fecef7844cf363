"""Canonical tensor names: one spelling for each tensor, whatever library version or wrapper the model comes in.

transformers before version 5 keeps CLIP's text tower below ``text_model.``, transformers 5 does not. torch.compile,
data parallelism and old training scripts add levels of their own. Canonical names have none of these levels.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection

from torch import Tensor, nn

from efface.core.errors import EffaceError

_LEADING = frozenset({"model", "module", "base_model", "text_model", "text_encoder", "unet", "vae"})
_ANYWHERE = frozenset({"_orig_mod", "base_layer"})


def canonical_name(name: str) -> str:
    """Returns a tensor's name without the levels that library versions and wrappers add."""
    levels = [level for level in name.split(".") if level not in _ANYWHERE]
    while len(levels) > 1 and levels[0] in _LEADING:
        levels.pop(0)
    return ".".join(levels)


def canonical_paths(module: nn.Module, *, buffers: bool = False) -> dict[str, str]:
    """Maps every parameter's canonical name to the module's own name, in the module's order.

    Args:
        module: the module.
        buffers: include running statistics (see `editable_tensors`).

    Raises:
        EffaceError: two parameters have the same canonical name.
    """
    paths: dict[str, str] = {}
    for path in editable_tensors(module) if buffers else dict(module.named_parameters()):
        name = canonical_name(path)
        if name in paths:
            raise EffaceError(f"{paths[name]!r} and {path!r} have the same canonical name: unwrap the model first")
        paths[name] = path
    return paths


def editable_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Returns a module's parameters and its saved floating-point buffers, such as running statistics, by own name."""
    saved = module.state_dict().keys()
    buffers = {n: b for n, b in module.named_buffers() if b.is_floating_point() and n in saved}
    return {**dict(module.named_parameters()), **buffers}


def canonical_state(module: nn.Module) -> dict[str, Tensor]:
    """Returns the floating-point tensors of a module's state by canonical name, sorted; the tensors are not copies.

    A parameter that a module holds under two names, such as T5's token embedding, is there once.
    """
    every = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    repeated = every - {name for name, _ in module.named_parameters()}
    state = {
        canonical_name(name): tensor
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point() and name not in repeated
    }
    return dict(sorted(state.items()))


def resolve_tensor_name(name: str, known: Collection[str]) -> str:
    """Finds the known canonical name that a name in any spelling refers to.

    An equal canonical name comes first, then the only known name that ends in the given one at a dot, or the reverse.

    Args:
        name: in any spelling.
        known: canonical names.

    Raises:
        EffaceError: no known name matches, or several do; the message suggests the nearest.
    """
    canonical = canonical_name(name)
    if canonical in known:
        return canonical
    matches = [item for item in known if item.endswith("." + canonical) or canonical.endswith("." + item)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise EffaceError(f"tensor {name!r} may be any of {', '.join(sorted(matches)[:4])}: give its whole name")
    near = difflib.get_close_matches(canonical, known, n=1, cutoff=0.0)
    raise EffaceError(f"the model has no tensor {name!r}{f'; the nearest is {near[0]!r}' if near else ''}")
