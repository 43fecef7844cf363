"""Reads benchmarks of language models and of classifiers: a shipped one by its name, or a user's YAML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from efface.core.concept_files import YAML_SUFFIXES
from efface.core.errors import EffaceError, UnknownNameError, check_known_keys
from efface.core.text_files import parse_yaml, read_text


def shipped_folder(kind: str) -> Path:
    """Returns the folder of the shipped benchmarks for a kind of model, ``language`` or ``classifier``."""
    return Path(str(files("efface.benchmarks").joinpath("data", kind)))


def shipped_names(kind: str) -> tuple[str, ...]:
    """Returns the names of the shipped benchmarks for a kind of model, sorted."""
    return tuple(sorted(path.stem for path in shipped_folder(kind).glob("*.yaml")))


def read_benchmark_file(ref: str | Path, kind: str) -> tuple[Mapping[str, Any], Path]:
    """Reads the fields of a benchmark, and returns them with the path of its file.

    Args:
        ref: name of a shipped benchmark, or a YAML file.
        kind: kind of model, ``language`` or ``classifier``.

    Raises:
        EffaceError: no such benchmark, or a file that is not one.
    """
    is_file = str(ref).endswith(YAML_SUFFIXES)
    if not is_file and str(ref) not in shipped_names(kind):
        raise UnknownNameError(f"{kind} benchmark", str(ref), shipped_names(kind))
    path = Path(ref) if is_file else shipped_folder(kind) / f"{ref}.yaml"
    data = parse_yaml(read_text(path), str(path))
    if not isinstance(data, Mapping):
        raise EffaceError(f"{path} is no benchmark: it must map fields to values")
    return data, path


def check_fields(data: Mapping[str, Any], required: Sequence[str], optional: Sequence[str], where: str | Path) -> None:
    """Checks that a benchmark has its fields and no others.

    Raises:
        EffaceError: an unknown or a missing field.
    """
    check_known_keys("benchmark field", data, (*required, *optional))
    if missing := [name for name in required if name not in data]:
        raise EffaceError(f"{where} has no {missing[0]}: give {', '.join(required)}")
