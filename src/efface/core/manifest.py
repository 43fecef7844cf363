"""The manifest of an artifact folder: writes it, reads it with checks, and compares the folder with it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

from .errors import CorruptArtifactError, EffaceError
from .io import backup_of, sha256_file, user_file_errors
from .serialization import json_bytes, parse_json

SCHEMA = 2
MANIFEST = "erasure.json"
WEIGHTS = "weights.safetensors"
README = "README.md"
EVIDENCE = "evidence"
"""The only subfolder that is not part of the artifact: it holds later attacks, results and reports."""
EFFECT_CHECK = "effect-check"
"""Subfolder of the evidence that holds the images of the effect check."""
IMAGES = "images.json"
"""File that lists a folder's images with their prompts, seeds and file names."""
TEXTS = "texts.json"
"""File that lists a language model's answers before and after the erasure."""
LANGUAGE_COMPONENT = "language_model"
"""Name of a language model's only component, in fingerprints and edits."""
CLASSIFIER_COMPONENT = "classifier"
"""Name of an image classifier's only component, in fingerprints and edits."""

_PICKLES = {".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth"}


@dataclass(frozen=True)
class Problem:
    """A difference between an artifact's folder and its manifest.

    An extra file is reported, but does not prevent loading.

    Attributes:
        file: path of the file in the folder.
        kind: kind of the difference.
        message: the difference in words.
    """

    file: str
    kind: Literal["changed", "truncated", "missing", "extra", "manifest"]
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


def write_manifest(folder: Path, content: Mapping[str, Any], files: Mapping[str, tuple[int, str]]) -> None:
    """Writes ``erasure.json`` with the content and every file's size and hash; not atomic, meant for `atomic_folder`.

    Args:
        folder: the artifact's folder.
        content: everything but the schema version and the files.
        files: size in bytes and SHA-256 of every file, by its path in the folder.
    """
    listed = {name: {"bytes": size, "sha256": digest} for name, (size, digest) in sorted(files.items())}
    (folder / MANIFEST).write_bytes(_hash_manifest({"schema": SCHEMA, **content, "files": listed}))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads the manifest and checks its version, its own hash and its paths.

    Raises:
        CorruptArtifactError: a manifest that was changed, or a path that leaves the folder or names a pickle.
        EffaceError: no artifact in the folder, an unreadable manifest, or an unknown schema version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        old = backup_of(folder)
        interrupted = not folder.exists() and old.exists()
        hint = f"; a version from before an interrupted save is in {old}" if interrupted else ""
        raise EffaceError(f"{folder} holds no erasure: there is no {MANIFEST}{hint}")
    with user_file_errors(path, "read"):
        raw = path.read_bytes()
    data = parse_json(raw, path)
    if not isinstance(data, dict) or "schema" not in data:
        raise CorruptArtifactError(f"{path} is not the manifest of an erasure")
    if type(data["schema"]) is not int or data["schema"] != SCHEMA:
        raise EffaceError(
            f"{path} has schema version {data['schema']!r}, this efface reads {SCHEMA}: use the efface that wrote it"
        )
    # bytes, not values: 1e-05 and 1E-05 are equal, yet one of them was not written by us
    if raw != _hash_manifest({key: value for key, value in data.items() if key != "sha256"}):
        raise CorruptArtifactError(f"{path} was changed after it was written: its own hash differs")
    _check_files(data.get("files"), path)
    return data


def verify(folder: str | Path) -> list[Problem]:
    """Hashes every file of an artifact and lists all differences from the manifest; an empty list means none."""
    folder = Path(folder)
    try:
        listed = read_manifest(folder)["files"]
    except EffaceError as error:
        return [Problem(MANIFEST, "manifest", str(error))]
    problems = [_compare(folder / name, name, entry) for name, entry in listed.items()]
    known = {MANIFEST, *listed}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in known and not path.is_dir() and name.split("/")[0] != EVIDENCE:
            problems.append(Problem(name, "extra", "not part of the artifact"))
    return [problem for problem in problems if problem]


def check_name(name: str, manifest: Path) -> None:
    """Checks a file's path in a manifest.

    Raises:
        CorruptArtifactError: a path that is absolute, leaves the folder, is not in its simplest form, or has the suffix
            of a pickle.
    """
    parts = PurePosixPath(name).parts
    has_special = "\\" in name or "\0" in name or bool(PureWindowsPath(name).drive)
    if has_special or not parts or ".." in parts or parts[0] == "/" or name != "/".join(parts):
        raise CorruptArtifactError(
            f"{manifest} lists {name!r}, which may lead out of the folder: it is not safe to use"
        )
    if PurePosixPath(name).suffix.lower() in _PICKLES:
        raise CorruptArtifactError(f"{manifest} lists {name!r}, which may be a pickle: efface takes safetensors only")


def _compare(path: Path, name: str, entry: Mapping[str, Any]) -> Problem | None:
    if not path.is_file():
        return Problem(name, "missing", "missing")
    with user_file_errors(path, "read"):
        size = path.stat().st_size
    if size != entry["bytes"]:
        kind: Literal["truncated", "changed"] = "truncated" if size < entry["bytes"] else "changed"
        return Problem(name, kind, f"has {size} bytes instead of {entry['bytes']}: {kind}")
    if sha256_file(path) != entry["sha256"]:
        return Problem(name, "changed", "its bytes were changed: the SHA-256 differs")
    return None


def _hash_manifest(content: Mapping[str, Any]) -> bytes:
    """Returns the manifest's bytes; the last entry is the hash of all others."""
    return json_bytes({**content, "sha256": hashlib.sha256(json_bytes({**content})).hexdigest()})


def _check_files(files: object, path: Path) -> None:
    if not isinstance(files, dict) or not {WEIGHTS, README} <= set(files):
        raise CorruptArtifactError(f"{path} does not list {WEIGHTS} and {README}")
    for name, entry in files.items():
        check_name(name, path)
        if not (isinstance(entry, dict) and type(entry.get("bytes")) is int and isinstance(entry.get("sha256"), str)):
            raise CorruptArtifactError(f"{path} has no size and hash of {name!r}")
