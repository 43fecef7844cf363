"""Reads what lies in an artifact's folder beside the erasure: losses, evaluations with their images, attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efface.core.erasure import Erasure
from efface.core.errors import CorruptArtifactError, EffaceError
from efface.core.io import read_json
from efface.core.manifest import EVIDENCE, read_manifest
from efface.core.result import Result

ATTACKS = "attacks"
_IMAGE = {"group": str, "prompt": str, "text": str, "seed": int}


@dataclass(frozen=True)
class ImagePair:
    """One prompt and seed, drawn before and after.

    Attributes:
        group: of the benchmark, or an attack's name.
        prompt: as asked. text: as the model was given it.
        seed: of both images.
        before: a file; None where it was not drawn. after: likewise.
        seen_before: by head, what the detector saw. seen_after: likewise.
        asked: by head, the classes each of which would do.
    """

    group: str
    prompt: str
    text: str
    seed: int
    before: Path | None
    after: Path | None
    seen_before: Mapping[str, str]
    seen_after: Mapping[str, str]
    asked: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class LoadedEvaluation:
    """One folder of `evidence`: its name, the result, the images that were kept, and the rows of interference, worst first."""

    name: str
    result: Result
    pairs: tuple[ImagePair, ...]
    interference: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class LoadedAttack:
    """An attack set as saved: name, configuration, budget and prompts; and its own scores, None where it was never drawn."""

    name: str
    config: Mapping[str, Any]
    budget: Mapping[str, Any]
    prompts: tuple[Mapping[str, Any], ...]
    result: Result | None


@dataclass(frozen=True)
class Evidence:
    """All that the report is made from.

    Attributes:
        erasure: as loaded, its files not hashed.
        files: of the artifact by name, with bytes and sha256.
        history: losses by phase, a row a step.
        evaluations: the newest first.
        attacks: by name.
    """

    erasure: Erasure
    files: Mapping[str, Mapping[str, Any]]
    history: Mapping[str, Sequence[Mapping[str, Any]]]
    evaluations: tuple[LoadedEvaluation, ...]
    attacks: tuple[LoadedAttack, ...]

    @classmethod
    def read(cls, folder: Path) -> Evidence:
        """Reads the folder.

        Raises:
            DamagedArtifact: a file that is not what efface writes there.
            EffaceError: no artifact there.
        """
        erasure = Erasure.load(folder, check=False)
        evidence = folder / EVIDENCE
        evaluations = [
            _evaluation(path.parent) for path in sorted(evidence.glob("*/result.json")) if path.parent.name != ATTACKS
        ]
        newest = sorted(evaluations, key=lambda found: str(found.result.metadata.get("made", "")), reverse=True)
        attacks = tuple(_attack(path) for path in sorted((evidence / ATTACKS).glob("*/attack.json")))
        return cls(erasure, read_manifest(folder)["files"], _history(folder / "history.json"), tuple(newest), attacks)


def _evaluation(folder: Path) -> LoadedEvaluation:
    images = _list(folder / "images.json")
    pairs = tuple(_pair(row, folder, folder / "images.json") for row in images)
    rows = _list(folder / "interference.json")
    for row in rows:
        if not isinstance(row.get("object"), str):
            raise _damaged(folder / "interference.json", "a row names no object")
    return LoadedEvaluation(folder.name, _result(folder / "result.json"), pairs, tuple(rows))


def _result(path: Path) -> Result:
    try:
        result = Result.load(path)
        _ = result.verdict  # computed now: thresholds may be no numbers
    except (EffaceError, TypeError) as error:
        text = str(error)
        where = "" if str(path) in text else f"{path}: "
        raise CorruptArtifactError(f"{where}{text}; evaluate again, or remove the folder") from error
    return result


def _pair(row: Mapping[str, Any], folder: Path, path: Path) -> ImagePair:
    for name, kind in _IMAGE.items():
        if not isinstance(row.get(name), kind):
            raise _damaged(path, f"{name} of an image is {row.get(name)!r}")
    before, after = (_file(row.get(when), folder, path) for when in ("before", "after"))
    seen = [
        {head: str(name) for head, name in _mapping(row, f"seen_{when}", path).items()} for when in ("before", "after")
    ]
    asked = {head: [str(name) for name in _many(classes)] for head, classes in _mapping(row, "asked", path).items()}
    return ImagePair(row["group"], row["prompt"], row["text"], row["seed"], before, after, seen[0], seen[1], asked)


def _file(name: object, folder: Path, path: Path) -> Path | None:
    if name is None:
        return None
    file = folder / str(name)
    if not file.resolve().is_relative_to(folder.resolve()):
        raise _damaged(path, f"the image {name!r} lies outside of its folder")
    return file


def _attack(path: Path) -> LoadedAttack:
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("prompts"), list):
        raise _damaged(path, "it lists no prompts")
    prompts = tuple(row for row in data["prompts"] if isinstance(row, dict))
    scored = path.with_name("result.json")
    result = _result(scored) if scored.is_file() else None
    name = str(data.get("attack", path.parent.name))
    return LoadedAttack(name, _mapping(data, "config", path), _mapping(data, "budget", path), prompts, result)


def _mapping(row: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    """What stands under a key; an empty mapping where nothing does."""
    value = row.get(key)
    if value is not None and not isinstance(value, dict):
        raise _damaged(path, f"{key} must be a mapping")
    return value or {}


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _history(path: Path) -> dict[str, list[dict[str, Any]]]:
    if not path.is_file():
        return {}
    data = read_json(path)
    if not isinstance(data, dict):
        raise _damaged(path, "losses are kept by phase")
    found = {
        name: [row for row in rows if isinstance(row, dict)] for name, rows in data.items() if isinstance(rows, list)
    }
    return {name: rows for name, rows in found.items() if rows}


def _list(path: Path) -> list[dict[str, Any]]:
    data = read_json(path) if path.is_file() else []
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise _damaged(path, "it must be a list of rows")
    return data


def _damaged(path: Path, why: str) -> CorruptArtifactError:
    return CorruptArtifactError(f"{path} is not as efface writes it ({why}): make it again, or remove its folder")
