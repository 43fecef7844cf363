"""Checkpoints of a run: a folder a step, tensors as safetensors and the rest as JSON, whole or absent; no pickle."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from efface.core.errors import CorruptArtifactError, EffaceError
from efface.core.io import atomic_folder, read_json, sha256_file
from efface.core.serialization import json_bytes, to_jsonable
from efface.core.tensors import TensorFile, write_tensors
from efface.ops.tensor_conversion import to_blob, to_torch

TENSORS, STATE = "state.safetensors", "state.json"


def save(folder: Path, phase: str, step: int, tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
    """Writes the checkpoint after ``step`` steps beside the last one, which is removed only then: at every moment one is whole."""
    try:
        with atomic_folder(_path(folder, phase, step), replace=True) as new:
            write_tensors(new / TENSORS, {name: to_blob(tensor) for name, tensor in tensors.items()})
            (new / STATE).write_bytes(json_bytes(to_jsonable({**content, "sha256": sha256_file(new / TENSORS)})))
    except BaseException:
        with suppress(OSError):
            folder.rmdir()  # only where nothing is in it: no checkpoint, no folder
        raise
    for old in all_of(folder, phase):
        if old != _path(folder, phase, step):
            shutil.rmtree(old, ignore_errors=True)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the rest.

    Raises:
        DamagedArtifact: not what was written.
    """
    content = read_json(path / STATE)
    if not isinstance(content, dict) or content.pop("sha256", None) != sha256_file(path / TENSORS):
        raise CorruptArtifactError(f"the checkpoint {path} was changed after it was written: remove it and start anew")
    return {name: to_torch(blob) for name, blob in TensorFile(path / TENSORS).items()}, content


def clear(folder: Path) -> None:
    """Removes the checkpoints of every phase: the run starts anew."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if (path / STATE).is_file():
            shutil.rmtree(path)


def check(folder: Path, key: str) -> None:
    """Raises `EffaceError` where a run of another key left a checkpoint there."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        content = read_json(path / STATE) if (path / STATE).is_file() else None
        if isinstance(content, dict) and content.get("run") != key:
            raise EffaceError(f"{path} is a checkpoint of another run: choose another folder, or do not resume")


def all_of(folder: Path, phase: str) -> list[Path]:
    """A phase's checkpoints, the newest last."""
    pattern = re.compile(rf"{re.escape(phase)}-\d{{8}}")
    return sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name)) if folder.is_dir() else []


def _path(folder: Path, phase: str, step: int) -> Path:
    return folder / f"{phase}-{step:08d}"


def pack_optimiser(optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state as tensors ``<parameter number>.<name>`` and JSON."""
    state = optimiser.state_dict()
    tensors = {
        f"{i}.{key}": value
        for i, entry in state["state"].items()
        for key, value in entry.items()
        if torch.is_tensor(value)
    }
    numbers = {
        str(i): {key: value for key, value in entry.items() if not torch.is_tensor(value)}
        for i, entry in state["state"].items()
    }
    return tensors, {"numbers": numbers, "groups": state["param_groups"]}


def unpack_optimiser(
    optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], content: Mapping[str, Any]
) -> None:
    """Puts the state back; numbers come back as the types that the optimiser has them in.

    Raises:
        EffaceError: the state of another optimiser.
    """
    state: dict[int, dict[str, Any]] = {int(i): dict(entry) for i, entry in content["numbers"].items()}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = tensor
    groups = []
    for now, saved in zip(optimiser.state_dict()["param_groups"], content["groups"], strict=False):
        groups.append({key: tuple(value) if isinstance(now.get(key), tuple) else value for key, value in saved.items()})
    try:
        optimiser.load_state_dict({"state": state, "param_groups": groups})
    except (ValueError, KeyError) as error:
        raise EffaceError(f"the checkpoint is of another optimiser ({error}): start anew") from error
