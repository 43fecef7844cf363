"""Loads the evidence in an artifact's folder: losses, evaluations with their images, and attacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efface.core.erasure import Erasure
from efface.core.errors import CorruptArtifactError
from efface.core.evaluation_evidence import ATTACKS, EvaluationEvidence, read_evaluations, read_result
from efface.core.io import read_json
from efface.core.manifest import EFFECT_CHECK, EVIDENCE, IMAGES, read_manifest
from efface.core.temporary_files import complete_files

from .evidence import Evidence, ImagePair, LoadedAttack, LoadedEvaluation
from .text_tables import load_text_tables

_IMAGE_FIELDS = {"group": str, "prompt": str, "text": str, "seed": int}


def load_evidence(folder: Path) -> Evidence:
    """Loads an artifact's folder with its evidence, and verifies the hash of every file of the artifact.

    Raises:
        CorruptArtifactError: A file is not as efface wrote it.
        EffaceError: The folder holds no artifact.
    """
    erasure = Erasure.load(folder)
    evidence = folder / EVIDENCE
    evaluations = [_load_evaluation(evidence, item) for item in read_evaluations(folder, erasure.spec)]
    attacks = tuple(_load_attack(path) for path in complete_files(evidence / ATTACKS, "attack.json"))
    history = _load_history(folder / "history.json")
    effect_pairs = _load_pairs(evidence / EFFECT_CHECK)
    listed, texts = read_manifest(folder)["files"], load_text_tables(evidence)
    return Evidence(erasure, listed, history, tuple(evaluations), attacks, effect_pairs, texts)


def _load_evaluation(evidence: Path, measured: EvaluationEvidence) -> LoadedEvaluation:
    folder = evidence / measured.name
    pairs = _load_pairs(folder)
    shown = {pair.group for pair in pairs}
    attacks = [score.group for score in measured.result.scores if score.metric == "asr_post"]
    for label in attacks:  # those found after the evaluation
        pairs += _load_pairs(evidence / ATTACKS / label) if label not in shown else ()
    rows = _read_rows(folder / "interference.json")
    for row in rows:
        if not isinstance(row.get("object"), str):
            raise _corrupt(folder / "interference.json", "a row names no object")
    return LoadedEvaluation(
        measured.name, measured.result, measured.verdict, measured.is_of_another_run, pairs, tuple(rows)
    )


def _load_pairs(folder: Path) -> tuple[ImagePair, ...]:
    """The images that ``images.json`` in a folder lists; empty if there is no such file."""
    images_file = folder / IMAGES
    return tuple(_image_pair(row, folder, images_file) for row in _read_rows(images_file))


def _image_pair(row: Mapping[str, Any], folder: Path, path: Path) -> ImagePair:
    """Converts one row of ``images.json``."""
    for name, kind in _IMAGE_FIELDS.items():
        if not isinstance(row.get(name), kind):
            raise _corrupt(path, f"{name} of an image is {row.get(name)!r}")
    return ImagePair(
        group=row["group"],
        prompt=row["prompt"],
        prompt_given=row["text"],
        seed=row["seed"],
        before=_image_file(row.get("before"), folder, path),
        after=_image_file(row.get("after"), folder, path),
        detected_before={head: str(name) for head, name in _mapping(row, "detected_before", path).items()},
        detected_after={head: str(name) for head, name in _mapping(row, "detected_after", path).items()},
        expected={head: _as_texts(classes) for head, classes in _mapping(row, "expected", path).items()},
    )


def _image_file(name: object, folder: Path, path: Path) -> Path | None:
    if name is None:
        return None
    file = folder / str(name)
    if not file.resolve().is_relative_to(folder.resolve()):
        raise _corrupt(path, f"the image {name!r} is outside the folder")
    return file


def _load_attack(path: Path) -> LoadedAttack:
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("prompts"), list):
        raise _corrupt(path, "it lists no prompts")
    prompts = tuple(row for row in data["prompts"] if isinstance(row, dict))
    result_file = path.with_name("result.json")
    result = read_result(result_file) if result_file.is_file() else None
    label = path.parent.name
    seed, limit = data.get("seed"), data.get("limit")
    return LoadedAttack(
        label=label,
        name=str(data.get("attack", label)),
        seed=seed if isinstance(seed, int) else 0,
        limit=limit if isinstance(limit, int) else None,
        config=_mapping(data, "config", path),
        budget=_mapping(data, "budget", path),
        prompts=prompts,
        result=result,
    )


def _load_history(path: Path) -> dict[str, list[dict[str, Any]]]:
    if not path.is_file():
        return {}
    data = read_json(path)
    if not isinstance(data, dict):
        raise _corrupt(path, "it must map phases to losses")
    lists = {phase: rows for phase, rows in data.items() if isinstance(rows, list)}
    history = {phase: [row for row in rows if isinstance(row, dict)] for phase, rows in lists.items()}
    return {phase: rows for phase, rows in history.items() if rows}


def _mapping(row: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    """The mapping under a key; empty if there is none."""
    value = row.get(key)
    if value is not None and not isinstance(value, dict):
        raise _corrupt(path, f"{key} must be a mapping")
    return value or {}


def _as_texts(value: Any) -> list[str]:
    return [str(item) for item in (value if isinstance(value, list) else [value])]


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """The list of rows in a JSON file; empty if there is no file."""
    data = read_json(path) if path.is_file() else []
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise _corrupt(path, "it must be a list of rows")
    return data


def _corrupt(path: Path, why: str) -> CorruptArtifactError:
    return CorruptArtifactError(f"{path} is not as efface writes it ({why}): make it again, or remove its folder")
