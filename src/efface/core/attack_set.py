"""The result of an attack: prompts that can be saved, read and tried on any model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .attack_prompt import (
    LATENTS,
    SOFT,
    AttackPrompt,
    AttackTask,
    SoftPrompt,
    StartLatent,
    insert_phrase,
    row_from_dict,
    row_to_dict,
)
from .concept import Concept
from .edits import Edit
from .errors import CorruptArtifactError, EffaceError, check_known_keys
from .io import atomic_folder, read_json, sha256_file
from .policy import check_prompts, is_refused
from .serialization import json_bytes, json_hash, to_jsonable_dict
from .spec import package_versions
from .tensors import Tensor, TensorFile, write_tensors
from .verdict_rules import DEVIATIONS, LIMIT

__all__ = ["AttackPrompt", "AttackSet", "AttackTask", "Budget", "SoftPrompt", "StartLatent", "insert_phrase"]

ATTACK, EDITS = "attack.json", "edits.safetensors"
SCHEMA = 5


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
        deviations: by name, the settings that differ from the attack's own; part of the set's label.
        limit: number of prompts that the search was limited to; None for all prompts of the benchmark.
        benchmark: name, split and hash of the benchmark whose prompts the search started from.
        versions: versions of Python and of packages at the time of the attack.
        folder: folder of the saved set; None in memory. Not part of equality.
        edits: edits of the attacked model's weights, after those of the erasure; empty for an attack that trains none.
        tensors: tensors of the edits by name. Not part of equality.
    """

    attack: str
    concept: Concept
    prompts: tuple[AttackPrompt, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    budget: Budget = Budget(None, 0.0)
    erasure_hash: str = ""
    base_fingerprint: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    deviations: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    benchmark: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=package_versions)
    folder: Path | None = field(default=None, compare=False)
    edits: tuple[Edit, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompts", tuple(self.prompts))
        object.__setattr__(self, "edits", tuple(self.edits))
        for name in ("config", "deviations", "benchmark"):
            object.__setattr__(self, name, to_jsonable_dict(getattr(self, name), name))
        if not self.prompts:
            raise EffaceError(f"the attack {self.attack!r} has no prompts: nothing to try")

    def without_refused(self) -> AttackSet:
        """Drops the prompts that the content policy refuses; raises `EffaceError` if none remain."""
        allowed = tuple(row for row in self.prompts if not is_refused(row.display_text))
        return self if len(allowed) == len(self.prompts) else replace(self, prompts=allowed)

    def proof(self, run_hash: str, prompts_hash: str, num_prompts: int) -> dict[str, Any]:
        """Returns what a score's provenance states of the attack: limit and deviations, with which it proves less.

        Args:
            run_hash: hash of the run of the scored erasure; empty for a model without one.
            prompts_hash: hash of the prompts of the benchmark that scores it.
            num_prompts: number of scored prompts.
        """
        deviations = [f"with {name} {value}" for name, value in self.deviations.items()]
        if run_hash and self.erasure_hash != run_hash:
            deviations.append("with prompts found on another erasure")
        if self.benchmark.get("prompts_hash", prompts_hash) != prompts_hash:
            deviations.append(f"with prompts of another benchmark ({self.benchmark.get('name')})")
        extra: dict[str, Any] = {"searched_against": self.erasure_hash}
        if self.limit is not None or num_prompts < len(self.prompts):
            extra[LIMIT] = num_prompts
        return extra | ({DEVIATIONS: deviations} if deviations else {})

    def same_search(self, other: AttackSet) -> bool:
        """Returns whether another set has the same prompts from the same search; its cost and versions may differ."""
        return replace(other, budget=self.budget, versions=self.versions) == self

    def save(self, folder: str | Path, files: Mapping[str, bytes] | None = None, overwrite: bool = False) -> AttackSet:
        """Writes the folder atomically; returns the set with its `folder` filled in.

        Args:
            folder: the folder to write.
            files: contents of further files by name, such as the set's scores; a name may lead into a subfolder.
            overwrite: whether to replace a folder with content.

        Raises:
            EffaceError: a folder with content, or a file error such as a full disk.
        """
        skipped = ("folder", "prompts", "tensors", *(() if self.edits else ("edits",)))
        own_fields = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in skipped}
        rows = [row_to_dict(row) for row in self.prompts]
        with atomic_folder(folder, replace=overwrite) as new:
            for name, tensors in self._files().items():
                if tensors:
                    write_tensors(new / name, tensors)
            content = {**to_jsonable_dict(own_fields), "prompts": rows}
            file_hash = _content_hash(content, new)
            (new / ATTACK).write_bytes(json_bytes({"schema": SCHEMA, **content, "hash": file_hash}))
            for name, data in (files or {}).items():
                (new / name).parent.mkdir(exist_ok=True)
                (new / name).write_bytes(data)
        return replace(self, folder=Path(folder))

    def _files(self) -> dict[str, Mapping[str, Tensor]]:
        """Returns the tensors of every file."""
        rows = {f"{i:05}": row for i, row in enumerate(self.prompts)}
        return {
            SOFT: {name: row.soft.embeddings for name, row in rows.items() if row.soft},
            LATENTS: {name: row.start.latent for name, row in rows.items() if row.start},
            EDITS: self.tensors,
        }

    @classmethod
    def load(cls, folder: str | Path, allow_refused: bool = False) -> AttackSet:
        """Reads the folder that `save` wrote.

        Args:
            folder: the folder.
            allow_refused: accept prompts that the content policy refuses, to drop them with `without_refused`.

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
        content = {key: value for key, value in data.items() if key not in ("schema", "hash")}
        check_known_keys("attack set field", content, (f.name for f in fields(cls)))
        try:
            if data["hash"] != _content_hash(content, Path(folder)):
                raise CorruptArtifactError(f"{path} or its tensors were changed after the attack: attack again")
            content["concept"] = Concept.coerce(content["concept"])
            content["prompts"] = tuple(
                row_from_dict(row, f"{i:05}", Path(folder)) for i, row in enumerate(content["prompts"])
            )
            texts = (text for row in content["prompts"] for text in (row.source_prompt, row.display_text))
            if not allow_refused:
                check_prompts(texts, f"a prompt of {path}")
            content["budget"] = Budget(**content["budget"])
            content["edits"] = tuple(Edit.from_dict(edit) for edit in content.get("edits", ()))
            content["tensors"] = TensorFile(Path(folder) / EDITS) if content["edits"] else {}
            return cls(**content, folder=Path(folder))
        except (KeyError, TypeError) as error:
            raise CorruptArtifactError(f"{path} is incomplete ({error})") from error


def _content_hash(content: Mapping[str, Any], folder: Path) -> str:
    """Returns the hash of a set's JSON values and of the files with its tensors, which need not exist."""
    hashes = {name: sha256_file(folder / name) for name in (SOFT, LATENTS, EDITS) if (folder / name).is_file()}
    return json_hash({**content, "embeddings": hashes.pop(SOFT, None), **hashes})
