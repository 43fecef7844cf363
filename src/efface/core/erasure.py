"""The erasure artifact: an ordered list of edits with their tensors, and the run that made them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .concept import Concept
from .concept_names import concept_names
from .edits import Cost, Edit
from .erasure_verbs import ErasureVerbs
from .errors import CorruptArtifactError, EffaceError
from .io import atomic_folder, sha256_file
from .manifest import EVIDENCE, MANIFEST, README, WEIGHTS, Problem, check_name, read_manifest, verify, write_manifest
from .serialization import to_jsonable_dict
from .spec import RunSpec, package_versions
from .tensors import Tensor, TensorFile, write_tensors
from .unsaved import is_unsaved

__all__ = ["Cost", "Edit", "Erasure", "Problem", "verify"]


@dataclass(frozen=True, repr=False)
class Erasure(ErasureVerbs):
    """The result of a method; it can be saved, loaded and applied to a model.

    Attributes:
        spec: the run that made it: model, base fingerprints, method, configuration, concepts, seed, preset, version.
        edits: the changes to the model, in order.
        tensors: tensors by their names in the file: numpy arrays, or `TensorBlob` for dtypes that numpy lacks; a lazy
            mapping after `load`. Not part of equality.
        cost: time and memory of the run; None if not measured.
        effect: the effect check's outcome as JSON values; None if the check was not run.
        versions: versions of Python and of packages at the time of the run.
        folder: folder that the erasure was loaded from or saved to; None in memory. Not part of equality.

    Raises:
        EffaceError: no edits.
        CorruptArtifactError: an edit that names a missing tensor.
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
            raise EffaceError("an erasure without edits changes nothing: give at least one edit")
        for edit in self.edits:
            for name in edit.tensors.values():
                if name not in self.tensors:
                    raise CorruptArtifactError(
                        f"the {edit.op} edit of {edit.component} needs the tensor {name!r}, which is missing"
                    )

    def __repr__(self) -> str:
        names = concept_names(self.concepts)
        preset = f" ({self.spec.preset})" if self.spec.preset else ""
        place = "not saved" if is_unsaved(self.folder) else str(self.folder)
        return (
            f"<Erasure of {names} from {self.spec.model} by {self.spec.method}{preset}, seed {self.spec.seed}: {place}>"
        )

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """The erased concepts."""
        return self.spec.concepts

    @property
    def tensors_path(self) -> Path:
        """The safetensors file; raises `EffaceError` for an erasure in memory."""
        if self.folder is None:
            raise EffaceError("this erasure exists only in memory: save it first")
        return self.folder / WEIGHTS

    def tensor_names(self) -> tuple[str, ...]:
        """Returns the names of all tensors, sorted."""
        return tuple(sorted(self.tensors))

    def save(
        self, folder: str | Path, readme: str = "", files: Mapping[str, bytes] | None = None, overwrite: bool = False
    ) -> Erasure:
        """Writes the artifact folder atomically; returns the erasure with its `folder` and lazily read tensors.

        Without ``readme`` and ``files``, the other files of the erasure's folder are copied too, with its evidence.

        Args:
            folder: the folder to write; it may exist if it is empty.
            readme: text of README.md.
            files: contents of further files by relative path, such as the log of losses; the manifest does not list
                those in the folder of the evidence.
            overwrite: whether to replace an existing erasure and its evidence; other folders are never replaced.

        Raises:
            EffaceError: a folder with content, a full disk, no permission, or a value that cannot be saved.
        """
        folder = Path(folder)
        if overwrite and folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
            raise EffaceError(f"{folder} is not an erasure and is not replaced: choose another folder")
        for name in files or {}:
            check_name(name, folder / MANIFEST)
            if name in (MANIFEST, WEIGHTS):
                raise EffaceError(f"{name} cannot be among the files: the artifact writes it itself")
        content = self._content()
        texts = dict(files or {})
        with atomic_folder(folder, replace=overwrite) as new:
            if self.folder is not None and not readme and files is None:
                shutil.copytree(self.folder, new, dirs_exist_ok=True)
            else:
                texts[README] = (readme or f"# {self.spec.folder_name}\n").encode()
            write_tensors(new / WEIGHTS, self.tensors)
            for name, data in texts.items():
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                (new / name).write_bytes(data)
            written = {path.relative_to(new).as_posix(): path for path in new.rglob("*") if path.is_file()}
            parts = {n: path for n, path in written.items() if n != MANIFEST and not n.startswith(f"{EVIDENCE}/")}
            listed = {name: (path.stat().st_size, sha256_file(path)) for name, path in parts.items()}
            write_manifest(new, content, listed)
        return replace(self, tensors=TensorFile(folder / WEIGHTS), folder=folder)

    @classmethod
    def load(cls, folder: str | Path, check: bool = True) -> Erasure:
        """Reads an artifact folder; each tensor is read on access.

        Args:
            folder: the folder that `save` wrote.
            check: whether to hash every file first; otherwise only the manifest and the tensors' header are checked.

        Raises:
            CorruptArtifactError: a file that is missing or was changed, or an unsafe manifest.
            EffaceError: no artifact in the folder, or an unknown schema version.
        """
        folder = Path(folder)
        data = read_manifest(folder)
        problems = [problem for problem in verify(folder) if problem.kind != "extra"] if check else []
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise CorruptArtifactError(f"{folder} is not as it was written: {problems[0]}{more}")
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
        """Returns the manifest without its schema version and files."""
        return {
            **self.spec.to_dict(),
            "run": self.spec.hash,
            "edits": [edit.to_dict() for edit in self.edits],
            "cost": None if self.cost is None else to_jsonable_dict(self.cost),
            "effect": self.effect,
            "versions": self.versions,
        }
