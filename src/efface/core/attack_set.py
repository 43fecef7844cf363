"""What an attack found: prompts that can be saved, read and tried on any model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .concept import PLACEHOLDER, Concept
from .errors import CorruptArtifactError, EffaceError, check_known_keys
from .io import atomic_folder, read_json
from .policy import check_prompts, is_refused
from .serialization import json_bytes, to_jsonable_dict
from .spec import package_versions
from .tensors import TensorBlob, TensorFile, write_tensors

ATTACK, SOFT = "attack.json", "soft.safetensors"
SCHEMA = 2


@dataclass(frozen=True)
class AttackTask:
    """What an attack starts from: a prompt that names the concept, and the seed that it is drawn with.

    Attributes:
        prompt: as it stands, such as ``a photo of a weapon in the snow``.
        frame: the prompt without the concept's words, ``a photo of {} in the snow``, or what they stand before or after.
        seed: of the image.
    """

    prompt: str
    template: str
    seed: int


def insert_phrase(frame: str, phrase: str) -> str:
    """A phrase in its frame; whichever of the two has the ``{}`` takes the other in.

    Raises:
        EffaceError: neither has one, or both have.
    """
    if (PLACEHOLDER in frame) == (PLACEHOLDER in phrase):
        raise EffaceError(f"one of {frame!r} and {phrase!r} must have a {PLACEHOLDER} for the other")
    return frame.replace(PLACEHOLDER, phrase) if PLACEHOLDER in frame else phrase.replace(PLACEHOLDER, frame)


@dataclass(frozen=True)
class SoftPrompt:
    """Embeddings that no word has, in place of some of a text's tokens.

    Attributes:
        embeddings: float32 ``(k, D)``.
        places: the k positions, counted from BOS at 0.
    """

    embeddings: TensorBlob
    places: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", tuple(int(p) for p in self.places))
        if (
            self.embeddings.dtype != "F32"
            or len(self.embeddings.shape) != 2
            or self.embeddings.shape[0] != len(self.places)
        ):
            raise EffaceError(f"{len(self.places)} places do not fit embeddings of shape {self.embeddings.shape}")


@dataclass(frozen=True)
class AttackPrompt:
    """One prompt under attack.

    Attributes:
        prompt: as it stood.
        text: what the attack made of it.
        seed: that both are drawn with.
        soft: embeddings in place of some of the text's tokens; None for an attack by words.
        words: the nearest readable words, for attacks by embeddings.
    """

    source_prompt: str
    adversarial_prompt: str
    seed: int
    soft: SoftPrompt | None = field(default=None, repr=False)
    nearest_tokens: str = ""

    @property
    def display_text(self) -> str:
        """All that the attack says in words."""
        return f"{self.adversarial_prompt} {self.nearest_tokens}".strip()


@dataclass(frozen=True)
class Budget:
    """What the attack took: optimisation steps or queries a prompt (None where it has none), and seconds in all."""

    steps: int | None
    seconds: float


@dataclass(frozen=True)
class AttackSet:
    """The prompts that an attack found against one erasure.

    Attributes:
        attack: the attack's registered name.
        concept: what it looks for.
        prompts: what it found, in the order of its tasks.
        config: every field of its configuration.
        budget: what it took.
        against: the hash of the run that it was found against; ``""`` for an unedited model.
        base: the fingerprint of that run's base model by component.
        seed: its root seed.
        versions: Python and packages when it was made.
        folder: where it lies; None in memory. Not part of equality.
    """

    attack: str
    concept: Concept
    prompts: tuple[AttackPrompt, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    budget: Budget = Budget(None, 0.0)
    erasure_hash: str = ""
    base_fingerprint: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=package_versions)
    folder: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompts", tuple(self.prompts))
        object.__setattr__(self, "config", to_jsonable_dict(self.config, "config"))
        if not self.prompts:
            raise EffaceError(f"the attack {self.attack!r} has no prompts: nothing to try")

    def without_refused(self) -> AttackSet:
        """The set without what a search found that the content policy does not allow; raises `EffaceError` where nothing is left."""
        kept = tuple(row for row in self.prompts if not is_refused(row.display_text))
        return self if len(kept) == len(self.prompts) else replace(self, prompts=kept)

    def save(self, folder: str | Path, overwrite: bool = True) -> AttackSet:
        """Writes the folder, whole or not at all; returns the set as it is on the disk."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("folder", "prompts")}
        rows = [_row_to_dict(row) for row in self.prompts]
        tensors = {f"{i:05}": row.soft.embeddings for i, row in enumerate(self.prompts) if row.soft}
        with atomic_folder(folder, replace=overwrite) as new:
            (new / ATTACK).write_bytes(json_bytes({"schema": SCHEMA, **to_jsonable_dict(own), "prompts": rows}))
            if tensors:
                write_tensors(new / SOFT, tensors)
        return AttackSet(
            **{f.name: getattr(self, f.name) for f in fields(self) if f.name != "folder"}, folder=Path(folder)
        )

    @classmethod
    def load(cls, folder: str | Path) -> AttackSet:
        """Reads the folder that `save` wrote.

        Raises:
            EffaceError: no attack set there, of another schema version, or not sound.
            Refused: a prompt that the content policy does not allow.
        """
        path = Path(folder) / ATTACK
        if not path.is_file():
            raise EffaceError(f"{folder} is no attack set: it has no {ATTACK} (make one with `efface attack`)")
        data = read_json(path)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise EffaceError(f"{path} is of another schema version: use the efface that wrote it")
        given = {key: value for key, value in data.items() if key != "schema"}
        check_known_keys("attack set field", given, (f.name for f in fields(cls)))
        try:
            given["concept"] = Concept.coerce(given["concept"])
            given["prompts"] = tuple(
                _row_from_dict(row, f"{i:05}", Path(folder)) for i, row in enumerate(given["prompts"])
            )
            check_prompts(
                (text for row in given["prompts"] for text in (row.source_prompt, row.display_text)),
                f"a prompt of {path}",
            )
            given["budget"] = Budget(**given["budget"])
            return cls(**given, folder=Path(folder))
        except (KeyError, TypeError) as error:
            raise CorruptArtifactError(f"{path} is incomplete ({error})") from error


def _row_to_dict(row: AttackPrompt) -> dict[str, Any]:
    places = list(row.soft.places) if row.soft else []
    return {
        "prompt": row.source_prompt,
        "text": row.adversarial_prompt,
        "seed": row.seed,
        "words": row.nearest_tokens,
        "places": places,
    }


def _row_from_dict(data: Mapping[str, Any], name: str, folder: Path) -> AttackPrompt:
    soft = SoftPrompt(TensorFile(folder / SOFT)[name], data["places"]) if data["places"] else None
    return AttackPrompt(data["prompt"], data["text"], data["seed"], soft, data["words"])
