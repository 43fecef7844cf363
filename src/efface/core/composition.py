"""One erasure with the edits of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from .edits import Edit
from .erasure import Erasure
from .errors import BaseModelMismatchError, EffaceError
from .serialization import json_hash
from .spec import RunSpec
from .tensors import Tensor, TensorBlob


def compose(erasures: Sequence[Erasure], same_base: Callable[[Any, Any], bool] = lambda a, b: bool(a == b)) -> Erasure:
    """Returns one erasure with the edits of several, in their order.

    Args:
        erasures: at least one, all for the same base model.
        same_base: tells whether two fingerprints of one component mean the same base; equality by default.

    Raises:
        BaseModelMismatchError: erasures of different base models.
        EffaceError: no erasures, one of them twice, a later one that replaces a tensor an earlier one writes and so
            would undo it, two autoencoders at one layer, of which the second would read the first one's output, or two
            adapters of one name, which samplers could only switch together.
    """
    if not erasures:
        raise EffaceError("nothing to compose: give at least one erasure")
    base: dict[str, Any] = {}
    written: dict[tuple[str, str], int] = {}
    edits: list[Edit] = []
    tensors: dict[str, Tensor] = {}
    for i, part in enumerate(erasures):
        if same := [k for k in range(i) if is_same(erasures[k], part)]:
            raise EffaceError(f"erasures {same[0] + 1} and {i + 1} are the same: give each erasure once")
        for component, fingerprint in part.spec.base.items():
            if not same_base(base.setdefault(component, fingerprint), fingerprint):
                raise BaseModelMismatchError(
                    f"erasure {i + 1} was made for another {component}: compose erasures of one base model"
                )
        for edit in part.edits:
            for place, action in _exclusive_places(edit).items():
                if written.setdefault((edit.component, place), i) != i and edit.op != "low_rank":
                    both = f"{written[edit.component, place] + 1} and {i + 1}"
                    raise EffaceError(
                        f"erasures {both} both {action} {place!r} of {edit.component}: erase the concepts in one run"
                    )
            names = {role: _adopt_tensor(name, part, i, tensors) for role, name in edit.tensors.items()}
            edits.append(replace(edit, tensors=names))
    concepts = tuple({json_hash(concept): concept for part in erasures for concept in part.concepts}.values())
    config = {"parts": [part.spec.to_dict() for part in erasures]}
    first_spec = erasures[0].spec
    return Erasure(RunSpec(first_spec.model, base, "compose", config, concepts, first_spec.seed), tuple(edits), tensors)


def order_note(erasure: Erasure) -> str:
    """Says in one line why the order of a composed erasure's edits matters; empty if it does not."""
    seen: set[tuple[str, str]] = set()
    for edit in erasure.edits:
        places = {(edit.component, target) for target in edit.targets}
        places |= {(edit.component, "the states")} if edit.op == "state" else set()
        places |= {(edit.component, "the latents")} if edit.params.get("rule") == "irece" else set()
        if shared := sorted(seen & places):
            component, target = shared[0]
            return f"the order matters: more than one edit changes {target} of {component}, one after the other"
        seen |= places
    return ""


def is_same(one: Erasure, other: Erasure) -> bool:
    """Returns whether two erasures are of one run and hold the same edits."""
    return one.spec.hash == other.spec.hash and one.edits == other.edits


def _exclusive_places(edit: Edit) -> dict[str, str]:
    """Returns the places at which no other erasure can act after an edit, with a verb for each."""
    places = dict.fromkeys(sorted(edit.targets), "write")
    if edit.op == "module" and edit.params.get("kind") == "autoencoder":
        places |= dict.fromkeys(sorted({role.rpartition(".")[0] for role in edit.tensors}), "replace the states behind")
    if edit.op == "module" and edit.params.get("adapter"):
        places[str(edit.params["adapter"])] = "insert the adapter"
    return places


def _adopt_tensor(name: str, part: Erasure, i: int, tensors: dict[str, Tensor]) -> str:
    """Adds a part's tensor to `tensors`, under a new name if another tensor has its name; returns the name used."""
    tensor = part.tensors[name]
    candidate = name
    while True:
        existing = tensors.setdefault(candidate, tensor)
        if existing is tensor or TensorBlob.of(existing) == TensorBlob.of(tensor):
            return candidate
        candidate, i = f"part{i}.{name}", i + 1
