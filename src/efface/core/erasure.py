"""The artifact: an ordered list of edits with their tensors, and all that is known of how they came about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .concept import Concept
from .edits import Cost, Edit
from .errors import BaseModelMismatchError, CorruptArtifactError, EffaceError
from .io import atomic_folder, sha256_file
from .manifest import MANIFEST, README, WEIGHTS, Problem, check_name, read_manifest, verify, write_manifest
from .serialization import json_hash, to_jsonable_dict
from .spec import RunSpec, package_versions
from .tensors import Tensor, TensorBlob, TensorFile, write_tensors

__all__ = ["Cost", "Edit", "Erasure", "Problem", "compose", "verify"]


@dataclass(frozen=True)
class Erasure:
    """What a method returns, what is saved, and what is applied to a model.

    Attributes:
        spec: the run that made it: model, base fingerprints, method, full configuration, concepts, seed, preset, version.
        edits: what to change, in order.
        tensors: by their names in the file: numpy arrays, or `TensorBlob` for dtypes that numpy lacks; after `load` a lazy mapping.
        cost: what it took to make; None where not measured.
        effect: the effect check's outcome as plain JSON; None where it was not run.
        versions: Python and packages when it was made.
        folder: where it was loaded from or saved to; None in memory. Not part of equality, and neither are the tensors.

    Raises:
        EffaceError: an edit that names a tensor which is not there.
    """

    spec: RunSpec
    edits: tuple[Edit, ...]
    tensors: Mapping[str, Tensor] = field(default_factory=dict, compare=False, repr=False)
    cost: Cost | None = None
    effect: Mapping[str, Any] | None = None
    versions: Mapping[str, str] = field(default_factory=package_versions)
    folder: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "edits", tuple(self.edits))
        object.__setattr__(self, "versions", to_jsonable_dict(self.versions, "versions"))
        if self.effect is not None:
            object.__setattr__(self, "effect", to_jsonable_dict(self.effect, "effect"))
        if not self.edits:
            raise EffaceError("an erasure without edits erases nothing")
        for edit in self.edits:
            for name in edit.tensors.values():
                if name not in self.tensors:
                    raise CorruptArtifactError(
                        f"the {edit.op} edit of {edit.component} needs the tensor {name!r}, which is not there"
                    )

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """The concepts that it erases."""
        return self.spec.concepts

    @property
    def tensors_path(self) -> Path:
        """The safetensors file; `EffaceError` for an erasure that is in memory only."""
        if self.folder is None:
            raise EffaceError("this erasure is in memory only: save it first")
        return self.folder / WEIGHTS

    def tensor_names(self) -> tuple[str, ...]:
        """The names of all tensors, sorted."""
        return tuple(sorted(self.tensors))

    def save(
        self, folder: str | Path, readme: str = "", files: Mapping[str, bytes] | None = None, overwrite: bool = False
    ) -> Erasure:
        """Writes the artifact folder, whole or not at all; returns the erasure as it is on the disk.

        Args:
            folder: where; an empty folder may be there already.
            readme: the text of its README.md.
            files: more files of the artifact by relative path, such as the log of losses.
            overwrite: whether an erasure that is there may be replaced, with its evidence; another folder never is.

        Raises:
            EffaceError: the place is taken, disk full, no permission, or a value that cannot be saved.
        """
        folder = Path(folder)
        if overwrite and folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
            raise EffaceError(f"{folder} is not an erasure, so that it is not replaced: choose another folder")
        for name in files or {}:
            check_name(name, folder / MANIFEST)
            if name in (MANIFEST, WEIGHTS):
                raise EffaceError(f"the artifact writes {name} itself")
        content = self._content()
        with atomic_folder(folder, replace=overwrite) as new:
            write_tensors(new / WEIGHTS, self.tensors)
            for name, data in {README: (readme or f"# {self.spec.folder_name}\n").encode(), **(files or {})}.items():
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                (new / name).write_bytes(data)
            written = {path.relative_to(new).as_posix(): path for path in new.rglob("*") if path.is_file()}
            write_manifest(
                new, content, {name: (path.stat().st_size, sha256_file(path)) for name, path in written.items()}
            )
        return replace(self, tensors=TensorFile(folder / WEIGHTS), folder=folder)

    @classmethod
    def load(cls, folder: str | Path, check: bool = True) -> Erasure:
        """Reads an artifact folder; tensors are read when they are asked for.

        Args:
            folder: the folder that `save` wrote.
            check: whether to hash every file first; without it only the manifest and the tensors' header are checked.

        Raises:
            DamagedArtifact: a file that is missing or was changed, or a manifest that is not safe.
            EffaceError: no artifact there, or of an unknown schema version.
        """
        folder = Path(folder)
        data = read_manifest(folder)
        wrong = [problem for problem in verify(folder) if problem.kind != "extra"] if check else []
        if wrong:
            raise CorruptArtifactError(
                f"{folder} is not as it was written: {wrong[0]}{f' (and {len(wrong) - 1} more)' if wrong[1:] else ''}"
            )
        if not (folder / WEIGHTS).is_file():
            raise CorruptArtifactError(f"{folder} is incomplete: {WEIGHTS} is missing")
        try:
            spec = RunSpec.from_dict({item.name: data[item.name] for item in fields(RunSpec)})
            cost = None if data["cost"] is None else Cost(**data["cost"])
            edits = tuple(Edit.from_dict(edit) for edit in data["edits"])
            return cls(spec, edits, TensorFile(folder / WEIGHTS), cost, data["effect"], data["versions"], folder)
        except (KeyError, TypeError) as error:
            raise CorruptArtifactError(f"{folder / MANIFEST} is incomplete ({error})") from error

    def _content(self) -> dict[str, Any]:
        """The manifest without its version and files."""
        return {
            **self.spec.to_dict(),
            "run": self.spec.hash,
            "edits": [edit.to_dict() for edit in self.edits],
            "cost": None if self.cost is None else to_jsonable_dict(self.cost),
            "effect": self.effect,
            "versions": self.versions,
        }


def compose(erasures: Sequence[Erasure], same_base: Callable[[Any, Any], bool] = lambda a, b: bool(a == b)) -> Erasure:
    """One erasure with the edits of several, in their order.

    Args:
        erasures: at least one, all for the same base model.
        same_base: whether two fingerprints of one component mean the same base; equality, unless the model layer knows better.

    Raises:
        BaseMismatch: made for different bases.
        EffaceError: two write the same tensor and the later one replaces it, so that the earlier would be lost.
    """
    if not erasures:
        raise EffaceError("nothing to compose: give at least one erasure")
    base: dict[str, Any] = {}
    written: dict[tuple[str, str], int] = {}
    edits: list[Edit] = []
    tensors: dict[str, Tensor] = {}
    for i, part in enumerate(erasures):
        for component, fingerprint in part.spec.base.items():
            if not same_base(base.setdefault(component, fingerprint), fingerprint):
                raise BaseModelMismatchError(
                    f"erasure {i + 1} was made for another {component}: compose erasures of one base model"
                )
        for edit in part.edits:
            for target in sorted(edit.targets):
                if written.setdefault((edit.component, target), i) != i and edit.op == "replace":
                    both = f"{written[edit.component, target] + 1} and {i + 1}"
                    raise EffaceError(
                        f"erasures {both} both write {target!r} of {edit.component}: erase the concepts in one run instead"
                    )
            edits.append(
                replace(
                    edit, tensors={role: _adopt_edit(name, part, i, tensors) for role, name in edit.tensors.items()}
                )
            )
    concepts = tuple({json_hash(concept): concept for part in erasures for concept in part.concepts}.values())
    config = {"parts": [part.spec.to_dict() for part in erasures]}
    first_spec = erasures[0].spec
    return Erasure(RunSpec(first_spec.model, base, "compose", config, concepts, first_spec.seed), tuple(edits), tensors)


def _adopt_edit(name: str, part: Erasure, i: int, tensors: dict[str, Tensor]) -> str:
    """Takes a part's tensor over, under another name where the name is taken by another tensor; returns the name."""
    tensor = part.tensors[name]
    candidate = name
    while (held := tensors.setdefault(candidate, tensor)) is not tensor and TensorBlob.of(held) != TensorBlob.of(
        tensor
    ):
        candidate, i = f"part{i}.{name}", i + 1
    return candidate
