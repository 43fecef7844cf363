"""One prompt of an attack: where it starts, and what the attack made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .concept import PLACEHOLDER
from .errors import EffaceError
from .tensors import TensorBlob, TensorFile

SOFT, LATENTS = "soft.safetensors", "latents.safetensors"
"""Files of an attack set with the embeddings and the latents of its prompts."""


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
class StartLatent:
    """A latent that an image is sampled from, in place of the noise of its seed.

    Attributes:
        latent: float32 ``(C, h, w)``.
        step: number of sampling steps that lie behind it; 0 for noise. Sampling goes on with the others, and decodes
            a latent that has all of them behind it.
    """

    latent: TensorBlob
    step: int = 0

    def __post_init__(self) -> None:
        if self.latent.dtype != "F32" or len(self.latent.shape) != 3 or self.step < 0:
            raise EffaceError(f"a latent of shape {self.latent.shape} after {self.step} steps cannot start an image")


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
        start: the latent that the image under attack starts from; None for the noise of the seed.
    """

    source_prompt: str
    adversarial_prompt: str
    seed: int
    soft: SoftPrompt | None = field(default=None, repr=False)
    nearest_tokens: str = ""
    start: StartLatent | None = field(default=None, repr=False)

    @property
    def display_text(self) -> str:
        """The adversarial prompt followed by the nearest tokens."""
        return f"{self.adversarial_prompt} {self.nearest_tokens}".strip()


def row_to_dict(row: AttackPrompt) -> dict[str, Any]:
    """Returns a prompt as JSON values, without its embeddings and the numbers of its latent."""
    start = {"start_step": row.start.step} if row.start else {}
    return {
        **start,
        "source_prompt": row.source_prompt,
        "adversarial_prompt": row.adversarial_prompt,
        "seed": row.seed,
        "nearest_tokens": row.nearest_tokens,
        "positions": list(row.soft.positions) if row.soft else [],
    }


def row_from_dict(data: Mapping[str, Any], name: str, folder: Path) -> AttackPrompt:
    """Reads what `row_to_dict` returned; embeddings and latent have that name in the folder's files of tensors."""
    soft = SoftPrompt(TensorFile(folder / SOFT)[name], data["positions"]) if data["positions"] else None
    start = None
    if data.get("start_step") is not None:
        start = StartLatent(TensorFile(folder / LATENTS)[name], data["start_step"])
    texts = (data["source_prompt"], data["adversarial_prompt"], data["seed"])
    return AttackPrompt(*texts, soft, data["nearest_tokens"], start)
