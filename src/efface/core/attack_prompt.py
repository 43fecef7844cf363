"""One prompt of an attack: where it starts, and what the attack made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .concept import PLACEHOLDER
from .errors import EffaceError
from .tensors import TensorBlob, TensorFile


@dataclass(frozen=True)
class AttackTask:
    """The starting point of an attack: a prompt that names the concept, and the seed of its image.

    Attributes:
        prompt: the whole prompt, such as ``a photo of a weapon in the snow``.
        template: the prompt with ``{}`` in place of the concept's words, such as ``a photo of {} in the snow``. Where
            the concept's words are themselves a template (``{}, by gaudi``), the text that fills them.
        seed: seed of the image.
    """

    prompt: str
    template: str
    seed: int


def insert_phrase(template: str, phrase: str) -> str:
    """Joins a template and a phrase; the one of the two that has the ``{}`` receives the other.

    Raises:
        EffaceError: neither has one, or both have.
    """
    if (PLACEHOLDER in template) == (PLACEHOLDER in phrase):
        raise EffaceError(f"write {PLACEHOLDER} in exactly one of {template!r} and {phrase!r}: it receives the other")
    return template.replace(PLACEHOLDER, phrase) if PLACEHOLDER in template else phrase.replace(PLACEHOLDER, template)


@dataclass(frozen=True)
class SoftPrompt:
    """Token embeddings that belong to no word, in place of some of a prompt's tokens.

    Attributes:
        embeddings: float32 ``(k, D)``.
        positions: the k token positions, counted from BOS at 0.
    """

    embeddings: TensorBlob
    positions: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", tuple(int(position) for position in self.positions))
        shape = self.embeddings.shape
        if self.embeddings.dtype != "F32" or len(shape) != 2 or shape[0] != len(self.positions):
            raise EffaceError(f"{len(self.positions)} positions do not fit embeddings of shape {shape}")


@dataclass(frozen=True)
class AttackPrompt:
    """One prompt before and after the attack.

    Attributes:
        source_prompt: the prompt before the attack.
        adversarial_prompt: the prompt that the attack made from it.
        seed: seed of both images.
        soft: embeddings in place of some of the adversarial prompt's tokens; None for an attack that only changes
            words.
        nearest_tokens: the words nearest to the embeddings, for attacks on embeddings.
    """

    source_prompt: str
    adversarial_prompt: str
    seed: int
    soft: SoftPrompt | None = field(default=None, repr=False)
    nearest_tokens: str = ""

    @property
    def display_text(self) -> str:
        """The adversarial prompt followed by the nearest tokens."""
        return f"{self.adversarial_prompt} {self.nearest_tokens}".strip()


def row_to_dict(row: AttackPrompt) -> dict[str, Any]:
    """Returns a prompt as JSON values, without its embeddings."""
    return {
        "source_prompt": row.source_prompt,
        "adversarial_prompt": row.adversarial_prompt,
        "seed": row.seed,
        "nearest_tokens": row.nearest_tokens,
        "positions": list(row.soft.positions) if row.soft else [],
    }


def row_from_dict(data: Mapping[str, Any], name: str, tensors: Path) -> AttackPrompt:
    """Reads what `row_to_dict` returned; the embeddings have that name in the file of tensors."""
    soft = SoftPrompt(TensorFile(tensors)[name], data["positions"]) if data["positions"] else None
    return AttackPrompt(data["source_prompt"], data["adversarial_prompt"], data["seed"], soft, data["nearest_tokens"])
