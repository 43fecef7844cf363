"""Facts about a method or attack that are known before it runs: its paper, models and needs."""

from __future__ import annotations

import ast
from dataclasses import dataclass, fields
from typing import Any

from .errors import EffaceError, check_known_keys
from .module_source import parse_module

KINDS_OF_MODEL = {"causal_lm": "language models", "image_classifier": "image classifiers"}
"""Words for the families that are kinds of model of their own; all other families generate images."""


@dataclass(frozen=True)
class MethodCard:
    """The facts that listings and documentation pages show.

    Attributes:
        name: registered name, equal to the file's name.
        title: name as the paper writes it.
        paper: authors, title, venue and year in one line.
        arxiv: arXiv number such as ``2303.07345``, or ``""``.
        families: supported model families, as `TextToImage.family` spells them.
        trains: the parts that it changes, in one phrase such as "cross-attention of the UNet"; ``""`` for none.
        needs_gradient: whether it needs gradients through the model.
        needs_images: whether it needs images of the concept, given or generated.
        reconstruction: whether no public implementation exists and the paper leaves points open.
        summary: the idea in one sentence.
        batch_independent: whether an attack searches each batch of prompts independently, so that several processes
            can share the batches.
        needs_control: whether an attack brings back concepts that a model never knew, so that its success counts only
            above that on a control model.
        quantized: whether a method works on a quantized denoiser, whose weights cannot be trained or edited.
        ignores_erasure: whether an attack reads the unedited model alone, so that its prompts are the same for every
            erasure of a concept.
    """

    name: str
    title: str
    paper: str
    arxiv: str
    families: tuple[str, ...]
    trains: str
    needs_gradient: bool
    needs_images: bool
    reconstruction: bool
    summary: str
    batch_independent: bool = False
    needs_control: bool = False
    quantized: bool = False
    ignores_erasure: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """Words for the kinds of model: ``image models``, ``language models``, ``image classifiers``."""
        return tuple(dict.fromkeys(KINDS_OF_MODEL.get(family, "image models") for family in self.families))


def read_card(module: str) -> MethodCard:
    """Reads a module's card from its source text, so that listing all methods imports neither them nor torch.

    The module assigns ``CARD = MethodCard(name="esd", ...)`` at its top level, with keywords and literals only.

    Raises:
        EffaceError: no such module, a module without a card, or a card with values that are not literals.
    """
    for node in parse_module(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CARD":
            return _parse_card(node.value, module)
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "CARD":
            return _parse_card(node.value, module)
    raise EffaceError(f"module {module} has no CARD = MethodCard(...) at its top level")


def _parse_card(call: ast.expr | None, module: str) -> MethodCard:
    if not isinstance(call, ast.Call) or call.args:
        raise EffaceError(f"the CARD of module {module} must be MethodCard(...) with keywords only")
    check_known_keys("card field", (item.arg for item in call.keywords), (field.name for field in fields(MethodCard)))
    try:
        values: dict[str, Any] = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
        return MethodCard(**values)
    except (ValueError, TypeError) as error:
        raise EffaceError(f"the CARD of module {module} must have every field, as a literal ({error})") from error
