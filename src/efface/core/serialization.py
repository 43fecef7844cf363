"""Conversion of values to JSON, their canonical spelling, and the hash of that spelling."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from .errors import CorruptArtifactError, EffaceError

JsonValue = bool | int | float | str | list[Any] | dict[str, Any] | None

OMIT_EMPTY = {"omit": "empty"}
"""Metadata of a dataclass field that is not saved while it is empty, so that older hashes stay valid."""
_EXACT = 2**53  # integers beyond this are not all distinct as floats


def to_jsonable(value: object, where: str = "value") -> JsonValue:
    """Converts dataclasses, mappings, sequences, paths and numpy scalars to new JSON values.

    Raises:
        EffaceError: a value that JSON in UTF-8 cannot hold, such as NaN or infinity; the message gives its position.
    """
    # Importing numpy takes longer than everything else here; a caller with numpy scalars has already imported it.
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        value = value.item()
    if isinstance(value, str):
        return _text(value, where)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise EffaceError(f"{where} is {value}: only finite numbers can be saved")
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_jsonable(getattr(value, field.name), f"{where}.{field.name}")
            for field in dataclasses.fields(value)
            if getattr(value, field.name) or field.metadata.get("omit") != "empty"
        }
    if isinstance(value, Mapping):
        return {_key(key, where): to_jsonable(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, PurePath):
        return value.as_posix()
    raise EffaceError(f"{where} is a {type(value).__name__}: only text, numbers, lists and mappings can be saved")


def to_jsonable_dict(value: object, where: str = "value") -> dict[str, Any]:
    """Converts a mapping or dataclass as `to_jsonable` does; raises `EffaceError` for any other type."""
    result = to_jsonable(value, where)
    if not isinstance(result, dict):
        raise EffaceError(f"{where} must be a mapping, not {type(value).__name__}")
    return result


def canonical_json(value: object) -> str:
    """Returns the same text for equal values: sorted keys, no spaces, only necessary escapes, and 3 for 3.0."""
    return json.dumps(
        _integer(to_jsonable(value)), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def json_hash(value: object) -> str:
    """Returns the SHA-256 of the canonical spelling, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def json_bytes(value: JsonValue) -> bytes:
    """Returns JSON in the layout of all files: two spaces of indent, UTF-8, keys in the given order, final newline."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def parse_json(raw: bytes, path: Path) -> JsonValue:
    """Parses JSON; raises `CorruptArtifactError`, with the path in its message, if the bytes are not JSON."""
    try:
        value: JsonValue = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise CorruptArtifactError(f"{path} is not valid JSON ({error}): it was cut short or changed") from error
    return value


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise EffaceError(f"{where} has the key {key!r}: keys must be text")
    return _text(key, where)


def _text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise EffaceError(f"{where} is {value!r}, which is not valid Unicode") from error
    return value


def _integer(value: JsonValue) -> JsonValue:
    """Replaces whole floats by integers, so that 3 and 3.0 in a configuration have the same hash."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, list):
        return [_integer(item) for item in value]
    if isinstance(value, dict):
        return {key: _integer(item) for key, item in value.items()}
    return value
