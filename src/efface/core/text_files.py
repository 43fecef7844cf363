"""Reads the text files and tables that users give, as other programs write them."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from .errors import CorruptArtifactError, EffaceError
from .io import user_file_errors

MAX_SEED = 2**63 - 1
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DELIMITERS = ",;\t"


@dataclass(frozen=True)
class TableRow:
    """One row of a table.

    Attributes:
        where: the file and line, for messages.
        values: the text of each column, by the column's name in small letters.
    """

    where: str
    values: dict[str, str]


def read_text(path: Path) -> str:
    """Reads a text file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Raises:
        EffaceError: the file cannot be read, or is in another encoding.
    """
    with user_file_errors(path, "read"):
        raw = path.read_bytes()
        encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8")
        text = raw.decode(encoding)
    if "\0" in text:
        raise EffaceError(f"cannot read {path}: it is not text in UTF-8 (it holds NUL characters); save it as UTF-8")
    return text


def read_lines(path: Path) -> list[str]:
    """Reads the lines of a text file, without surrounding spaces and empty lines; errors as `read_text`."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def parse_yaml(text: str, where: str) -> Any:
    """Returns the value that YAML text holds.

    Args:
        text: the text.
        where: the file, for the message.

    Raises:
        EffaceError: the text is not valid YAML.
    """
    import yaml  # not needed to import this module

    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # in C, ten times as fast
    except yaml.YAMLError as error:
        raise EffaceError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error


def read_table(path: Path) -> list[TableRow]:
    """Reads a CSV file with a header, separated by commas, semicolons or tabs, whichever the header has most of.

    Raises:
        EffaceError: the file cannot be read, has no rows, or two columns have one name.
        CorruptArtifactError: a row has more or fewer fields than the header, or a quotation mark is not closed.
    """
    text = read_text(path)
    header_line = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=header_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        rows.extend((reader.line_num, row) for row in reader if any(field.strip() for field in row))
    except csv.Error as error:
        raise CorruptArtifactError(f"{path}, line {reader.line_num}: not a row of a CSV file ({error})") from error
    if len(rows) < 2:
        raise EffaceError(f"{path} has no rows: give a CSV file with a header and at least one row")
    header = _header(path, rows[0][1])
    return [_row(f"{path}, line {line}", header, fields) for line, fields in rows[1:]]


def _header(path: Path, fields: Sequence[str]) -> list[str]:
    names = [field.strip().casefold() for field in fields]
    while names and not names[-1]:
        names.pop()
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise EffaceError(f"{path} has two columns {twice!r}: rename one")
    return names


def _row(where: str, header: Sequence[str], fields: list[str]) -> TableRow:
    while len(fields) > len(header) and not fields[-1].strip():
        fields.pop()  # spreadsheets fill rows up with empty fields
    if len(fields) != len(header):
        raise CorruptArtifactError(
            f"{where}: the row has {len(fields)} fields, the header {len(header)}; put texts with commas or "
            "line breaks into quotation marks"
        )
    return TableRow(where, dict(zip(header, fields, strict=True)))


def find_column(path: Path, row: TableRow, names: Sequence[str]) -> str:
    """Returns the first of the names that a table has as a column.

    Raises:
        EffaceError: it has none of them.
    """
    column = next((name for name in names if name in row.values), None)
    if column is None:
        raise EffaceError(
            f"{path} has no column {' or '.join(names)}, only {', '.join(row.values)}: rename a column, or add the "
            "header if it has none"
        )
    return column


def parse_seed(text: str, where: str) -> int:
    """Returns a seed, also if it is written as spreadsheets write whole numbers, such as ``3016.0``.

    Args:
        text: the text.
        where: the file and line, for the message.

    Raises:
        CorruptArtifactError: it is not a whole number from 0 to `MAX_SEED`.
    """
    value = _decimal(text)
    if value is None or value != value.to_integral_value() or not 0 <= value <= MAX_SEED:
        raise CorruptArtifactError(f"{where}: {text!r} is no seed; give a whole number from 0")
    return int(value)


def parse_finite(text: str, name: str, where: str) -> float:
    """Returns a finite number.

    Args:
        text: the text.
        name: name of the number, such as ``guidance scale``, for the message.
        where: the file and line, for the message.

    Raises:
        CorruptArtifactError: it is not one.
    """
    value = _decimal(text)
    if value is None:
        raise CorruptArtifactError(f"{where}: {text!r} is no {name}; give a number")
    return float(value)


def _decimal(text: str) -> Decimal | None:
    """Returns the finite number that a text of usual length writes; None if it writes none."""
    try:
        value = Decimal(text.strip()) if len(text) < 100 else Decimal("nan")
    except InvalidOperation:
        return None
    return value if value.is_finite() and value.adjusted() < 300 else None
