"""What is known of a method or attack before it runs: its paper, the models it fits, and what it costs."""

from __future__ import annotations

import ast
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .errors import EffaceError, check_known_keys


@dataclass(frozen=True)
class MethodCard:
    """The facts that listings, documentation pages and model cards are made from.

    Attributes:
        name: the registered name, which is the file's.
        title: the name as the paper writes it.
        paper: authors, title, venue and year in one line.
        arxiv: the arXiv number such as ``2303.07345``, or ``""``.
        families: model families that it fits, as `TextToImage.family` spells them.
        trains: what it changes in one phrase, such as "cross-attention of the UNet"; ``""`` where nothing is trained.
        needs_gradient: whether it needs gradients through the model.
        needs_images: whether it needs images of the concept (given or drawn).
        vram: peak memory in GiB by model, as measured; a model not measured is not listed.
        minutes: duration in minutes by model, as measured; a model not measured is not listed.
        reconstruction: True where no public implementation exists and the paper leaves points open.
        summary: the idea in one sentence.
        apart: of an attack, whether it searches from each batch of prompts alone, so that processes can share them out.
    """

    name: str
    title: str
    paper: str
    arxiv: str
    families: tuple[str, ...]
    trains: str
    needs_gradient: bool
    needs_images: bool
    vram: dict[str, float]
    minutes: dict[str, float]
    reconstruction: bool
    summary: str
    batch_independent: bool = False


def read_card(module: str) -> MethodCard:
    """The card of a module, from its source text: listing forty methods must not import one of them, nor torch.

    The module says ``CARD = Card(name="esd", ...)`` at its top level with keywords and literals only.

    Raises:
        EffaceError: no such module, no card in it, or one that is not made of literals.
    """
    spec = find_spec(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise EffaceError(f"module {module} has no source to read a card from")
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        target = (
            node.targets[0]
            if isinstance(node, ast.Assign)
            else node.target
            if isinstance(node, ast.AnnAssign)
            else None
        )
        if isinstance(target, ast.Name) and target.id == "CARD" and isinstance(node, ast.Assign | ast.AnnAssign):
            return _card(node.value, module)
    raise EffaceError(f"module {module} has no CARD = Card(...) at its top level")


def _card(call: ast.expr | None, module: str) -> MethodCard:
    if not isinstance(call, ast.Call) or call.args:
        raise EffaceError(f"the CARD of module {module} must be Card(...) with keywords only")
    check_known_keys(
        "card field", (keyword.arg for keyword in call.keywords), (field.name for field in fields(MethodCard))
    )
    try:
        values: dict[str, Any] = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
        return MethodCard(**values)
    except (ValueError, TypeError) as error:
        raise EffaceError(f"the CARD of module {module} must have every field, as a literal ({error})") from error
