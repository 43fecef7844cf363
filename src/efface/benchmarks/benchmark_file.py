"""A benchmark's YAML file: checked against ``data/benchmark.schema.json``, with errors that name line and field."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from efface.core.concept import PLACEHOLDER
from efface.core.errors import EffaceError
from efface.core.policy import ContentPolicyError
from efface.core.text_files import read_text

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

FieldPath = Sequence[str | int]
"""Keys and indices from the top of the file to a field."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TYPES = {
    "object": "a mapping", "array": "a list", "string": "text", "integer": "a whole number", "number": "a number",
}  # fmt: skip


class BenchmarkFile:
    """The text of a benchmark's file and its fields.

    Args:
        path: the file.

    Attributes:
        path: the file.
        fields: the mapping that the file holds.

    Raises:
        EffaceError: a file that cannot be read or is not YAML.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text = read_text(path)
        try:
            self.fields: Any = yaml.load(self._text, Loader=_LOADER)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or " ".join(str(error).split())
            raise EffaceError(f"{path}{line}: this is not YAML ({problem})") from error

    def check(self) -> None:
        """Checks the fields against the schema, and that templates and phrases fit together.

        Raises:
            EffaceError: the first field that is wrong, with its line.
        """
        from jsonschema import Draft202012Validator

        errors = list(Draft202012Validator(benchmark_schema()).iter_errors(self.fields))
        if errors:
            # a misspelt field is both unknown and missing: the unknown one is what the user sees in his file
            first = min(errors, key=lambda e: (len(e.absolute_path), e.validator != "additionalProperties"))
            raise self.error(tuple(first.absolute_path), _problem(first))
        for split, content in self.fields["splits"].items():
            self._check_placeholders(split, content)

    def error(self, field: FieldPath, message: str) -> EffaceError:
        """Returns an error with file, line, the field's path and a message."""
        name = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in field).lstrip(".")
        return EffaceError(f"{self.path}, line {self._line(field)}{name and ', '}{name}: {message}")

    @contextmanager
    def errors_at(self, *field: str | int) -> Iterator[None]:
        """Adds file, line and field to an `EffaceError` of the body; refusals of the content policy stay as they are.

        Args:
            field: keys and indices of the field that the body checks.
        """
        try:
            yield
        except ContentPolicyError:
            raise
        except EffaceError as error:
            raise self.error(field, str(error)) from error

    def _check_placeholders(self, split: str, content: Mapping[str, Any]) -> None:
        in_templates = {PLACEHOLDER in template["text"] for template in content["templates"]}
        if len(in_templates) > 1:
            raise self.error(("splits", split, "templates"), f"must all have {PLACEHOLDER}, or none of them")
        for group, spec in content["groups"].items():
            for i, phrase in enumerate(spec["phrases"]):
                if (PLACEHOLDER in phrase["phrase"]) in in_templates:
                    message = (
                        f"is {phrase['phrase']!r}: write {PLACEHOLDER} in every template of the split, or in every "
                        "phrase, not in both"
                    )
                    raise self.error(("splits", split, "groups", group, "phrases", i, "phrase"), message)

    def _line(self, field: FieldPath) -> int:
        """Returns the line of a field, or of the innermost mapping or list on its path that exists."""
        node = yaml.compose(self._text, Loader=_LOADER)
        line = 1 if node is None else node.start_mark.line + 1
        for key in field:
            node = _child(node, key)
            if node is None:
                break
            line = node.start_mark.line + 1
        return line


@cache
def benchmark_schema() -> dict[str, Any]:
    """Returns the JSON schema of a benchmark's file."""
    text = files("efface.benchmarks").joinpath("data", "benchmark.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _child(node: Any, key: str | int) -> Any:
    """Returns the node of a mapping's key or a list's index; None if there is none."""
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key]
    if isinstance(node, yaml.MappingNode):
        return next((value for name, value in node.value if name.value == str(key)), None)
    return None


def _problem(error: ValidationError) -> str:
    """Says in words how a field differs from the schema."""
    value: Any = error.instance
    limit: Any = error.validator_value
    schema: Any = error.schema
    if error.validator == "required":
        missing = [name for name in limit if name not in value]
        return f"has no field {missing[0]!r}"
    if error.validator == "additionalProperties":
        known = list(schema["properties"])
        unknown = next(str(name) for name in value if name not in known)
        near = difflib.get_close_matches(unknown, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the fields are {', '.join(known)}"
        return f"has an unknown field {unknown!r}: {hint}"
    if error.validator == "type":
        quotes = "; put it in quotes" if limit == "string" and value is not None else ""
        return f"must be {_TYPES[limit]}, not {_short(value)}{quotes}"
    if error.validator == "minimum":
        return f"must be at least {limit}, not {_short(value)}"
    if error.validator in ("minItems", "minLength"):
        return "is empty: give at least one entry" if error.validator == "minItems" else "is empty: give a text"
    if error.validator == "oneOf":
        return f"must be text or a list of texts, not {_short(value)}"
    return f"is {_short(value)}: {schema.get('description', error.message)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class _Dumper(yaml.SafeDumper):
    """Writes short mappings and lists on one line, and repeats values instead of using aliases."""

    def ignore_aliases(self, data: object) -> bool:
        """Always writes values in full."""
        return True


def _represent_short(dumper: yaml.SafeDumper, data: Any) -> yaml.Node:
    values = data.values() if isinstance(data, dict) else data
    short_values = all(not isinstance(value, dict | list) or len(str(value)) < 90 for value in values)
    flow = short_values and len(str(data)) < 150
    if isinstance(data, dict):
        return dumper.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=flow)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=flow)


_Dumper.add_representer(dict, _represent_short)
_Dumper.add_representer(list, _represent_short)


def benchmark_yaml(fields: Mapping[str, Any]) -> str:
    """Returns the fields of a benchmark as YAML, short mappings and lists on one line."""
    return yaml.dump(dict(fields), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=140)
