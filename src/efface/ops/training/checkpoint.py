"""Checkpoints of a run: one folder a step with tensors as safetensors and the rest as JSON; no pickle.

A checkpoint is written to a temporary folder and renamed, so that a killed run leaves complete checkpoints only.
"""

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

TENSOR_FILE = "state.safetensors"
JSON_FILE = "state.json"


def save(folder: Path, phase: str, step: int, tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
    """Writes the checkpoint after ``step`` steps, then removes the phase's older ones.

    Args:
        folder: the run's checkpoint folder.
        phase: name of the training loop.
        step: number of completed steps.
        tensors: tensors by name.
        content: everything else, as JSON.
    """
    try:
        with atomic_folder(_path(folder, phase, step), replace=True) as new:
            write_tensors(new / TENSOR_FILE, {name: to_blob(tensor) for name, tensor in tensors.items()})
            (new / JSON_FILE).write_bytes(
                json_bytes(to_jsonable({**content, "sha256": sha256_file(new / TENSOR_FILE)}))
            )
    except BaseException:
        with suppress(OSError):
            folder.rmdir()  # succeeds only if the folder is empty: a run without a checkpoint leaves no folder
        raise
    for old in list_checkpoints(folder, phase):
        if old != _path(folder, phase, step):
            shutil.rmtree(old, ignore_errors=True)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads one checkpoint: its tensors and its JSON content.

    Raises:
        CorruptArtifactError: the tensor file does not match the recorded hash.
    """
    content = read_json(path / JSON_FILE)
    if not isinstance(content, dict) or content.pop("sha256", None) != sha256_file(path / TENSOR_FILE):
        raise CorruptArtifactError(f"the checkpoint {path} was changed after it was written: remove it and start again")
    return {name: to_torch(blob) for name, blob in TensorFile(path / TENSOR_FILE).items()}, content


def remove_all(folder: Path) -> None:
    """Removes the checkpoints of every phase, so that the run starts from the first step."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if (path / JSON_FILE).is_file():
            shutil.rmtree(path)


def check_run_key(folder: Path, run_key: str) -> None:
    """Raises `EffaceError` if the folder holds a checkpoint of a run with another key."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        content = read_json(path / JSON_FILE) if (path / JSON_FILE).is_file() else None
        if isinstance(content, dict) and content.get("run_key") != run_key:
            raise EffaceError(f"{path} is a checkpoint of another run: choose another folder, or do not resume")


def list_checkpoints(folder: Path, phase: str) -> list[Path]:
    """Lists a phase's checkpoints, the newest last."""
    pattern = re.compile(rf"{re.escape(phase)}-\d{{8}}")
    return sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name)) if folder.is_dir() else []


def _path(folder: Path, phase: str, step: int) -> Path:
    return folder / f"{phase}-{step:08d}"


def pack_optimiser(optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Splits an optimiser's state into tensors named ``<parameter number>.<name>`` and JSON."""
    state = optimiser.state_dict()
    tensors = {
        f"{number}.{key}": value
        for number, entry in state["state"].items()
        for key, value in entry.items()
        if torch.is_tensor(value)
    }
    scalars = {
        str(number): {key: value for key, value in entry.items() if not torch.is_tensor(value)}
        for number, entry in state["state"].items()
    }
    return tensors, {"scalars": scalars, "param_groups": state["param_groups"]}


def unpack_optimiser(
    optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], content: Mapping[str, Any]
) -> None:
    """Restores the state from `pack_optimiser`; JSON lists become tuples again where the optimiser has tuples.

    Raises:
        EffaceError: the state belongs to another optimiser.
    """
    state: dict[int, dict[str, Any]] = {int(number): dict(entry) for number, entry in content["scalars"].items()}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = tensor
    groups = []
    for current, saved in zip(optimiser.state_dict()["param_groups"], content["param_groups"], strict=False):
        groups.append(
            {key: tuple(value) if isinstance(current.get(key), tuple) else value for key, value in saved.items()}
        )
    try:
        optimiser.load_state_dict({"state": state, "param_groups": groups})
    except (ValueError, KeyError) as error:
        raise EffaceError(f"the checkpoint is of another optimiser ({error}): do not resume") from error
