"""The result of an attack: prompts that can be saved, read and tried on any model."""

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
SCHEMA = 3


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


@dataclass(frozen=True)
class Budget:
    """The cost of an attack.

    Attributes:
        steps: optimisation steps or queries per prompt; None for an attack without either.
        seconds: wall time of the whole attack.
    """

    steps: int | None
    seconds: float


@dataclass(frozen=True)
class AttackSet:
    """The prompts that an attack found against one erasure.

    Attributes:
        attack: registered name of the attack.
        concept: the concept that the attack tries to bring back.
        prompts: the prompts found, in the order of the tasks.
        config: every field of the attack's configuration.
        budget: cost of the attack.
        erasure_hash: hash of the attacked erasure's run; ``""`` for an unedited model.
        base_fingerprint: fingerprint of that run's base model, by component.
        seed: root seed of the attack.
        versions: versions of Python and of packages at the time of the attack.
        folder: folder of the saved set; None in memory. Not part of equality.
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
        """Drops the prompts that the content policy refuses; raises `EffaceError` if none remain."""
        allowed = tuple(row for row in self.prompts if not is_refused(row.display_text))
        return self if len(allowed) == len(self.prompts) else replace(self, prompts=allowed)

    def save(self, folder: str | Path, overwrite: bool = True) -> AttackSet:
        """Writes the folder atomically; returns the set with its `folder` filled in."""
        own_fields = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("folder", "prompts")}
        rows = [_row_to_dict(row) for row in self.prompts]
        tensors = {f"{i:05}": row.soft.embeddings for i, row in enumerate(self.prompts) if row.soft}
        with atomic_folder(folder, replace=overwrite) as new:
            content = {"schema": SCHEMA, **to_jsonable_dict(own_fields), "prompts": rows}
            (new / ATTACK).write_bytes(json_bytes(content))
            if tensors:
                write_tensors(new / SOFT, tensors)
        return replace(self, folder=Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> AttackSet:
        """Reads the folder that `save` wrote.

        Raises:
            EffaceError: no attack set in the folder, or another schema version.
            CorruptArtifactError: a set that is incomplete or damaged.
            ContentPolicyError: a prompt that the content policy refuses.
        """
        path = Path(folder) / ATTACK
        if not path.is_file():
            raise EffaceError(f"{folder} is not an attack set: it has no {ATTACK} (make one with `efface attack`)")
        data = read_json(path)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise EffaceError(f"{path} has another schema version than {SCHEMA}: use the efface that wrote it")
        content = {key: value for key, value in data.items() if key != "schema"}
        check_known_keys("attack set field", content, (f.name for f in fields(cls)))
        try:
            content["concept"] = Concept.coerce(content["concept"])
            content["prompts"] = tuple(
                _row_from_dict(row, f"{i:05}", Path(folder)) for i, row in enumerate(content["prompts"])
            )
            texts = (text for row in content["prompts"] for text in (row.source_prompt, row.display_text))
            check_prompts(texts, f"a prompt of {path}")
            content["budget"] = Budget(**content["budget"])
            return cls(**content, folder=Path(folder))
        except (KeyError, TypeError) as error:
            raise CorruptArtifactError(f"{path} is incomplete ({error})") from error


def _row_to_dict(row: AttackPrompt) -> dict[str, Any]:
    return {
        "source_prompt": row.source_prompt,
        "adversarial_prompt": row.adversarial_prompt,
        "seed": row.seed,
        "nearest_tokens": row.nearest_tokens,
        "positions": list(row.soft.positions) if row.soft else [],
    }


def _row_from_dict(data: Mapping[str, Any], name: str, folder: Path) -> AttackPrompt:
    soft = SoftPrompt(TensorFile(folder / SOFT)[name], data["positions"]) if data["positions"] else None
    return AttackPrompt(data["source_prompt"], data["adversarial_prompt"], data["seed"], soft, data["nearest_tokens"])
