"""Questions from files of known benchmarks in a user's folder: WMDP, MMLU, TOFU, MUSE and RWKU.

A group of a language benchmark names such a file instead of listing questions::

    questions:
      name: {file: wmdp-bio.jsonl, format: wmdp}
      general: {file: mmlu.jsonl, format: mmlu, limit: 200}

or a dataset of the hub, read through the library datasets (extra ``lm-eval``)::

      name: {hub: cais/wmdp, subset: wmdp-bio, split: test, format: wmdp, limit: 200}

efface ships none of these texts.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from efface.core.errors import EffaceError, UnknownNameError, check_known_keys
from efface.core.question import Question
from efface.core.subsample import evenly_spaced
from efface.core.text_files import read_text

from .hub_questions import download_rows

Row = Mapping[str, Any]
LETTERS = "ABCDEFGH"
SUFFIXES = (".jsonl", ".json", ".csv")


def read_questions(spec: Row, folder: Path, where: str) -> tuple[Question, ...]:
    """Reads the questions of a file, or of a dataset of the hub.

    Args:
        spec: its ``file``, relative to the folder, or ``hub``, ``subset`` and ``split``; its ``format`` (`FORMATS`);
            if wanted, a ``limit``.
        folder: folder of the benchmark's file.
        where: name of the benchmark's file, for errors.

    Raises:
        EffaceError: no such file, dataset or format, rows without the format's columns, or no rows.
    """
    check_known_keys("field of a question file", spec, ("file", "hub", "subset", "split", "format", "limit"))
    if ("file" in spec) == ("hub" in spec) or "format" not in spec:
        raise EffaceError(f"{where}: questions need file or hub, and format ({', '.join(FORMATS)})")
    if spec["format"] not in FORMATS:
        raise UnknownNameError("format of questions", str(spec["format"]), tuple(FORMATS))
    if "hub" in spec:
        place, rows = str(spec["hub"]), download_rows(str(spec["hub"]), spec.get("subset"), spec.get("split", "test"))
    else:
        place, rows = str(folder / str(spec["file"])), read_rows(folder / str(spec["file"]))
    if not rows:
        raise EffaceError(f"{place} holds no questions: give a file with one a row")
    limit = spec.get("limit")
    return tuple(_question(row, str(spec["format"]), place) for row in evenly_spaced(rows, limit and int(limit)))


def read_rows(path: Path) -> list[Row]:
    """Reads the rows of a JSON Lines, JSON or CSV file.

    Raises:
        EffaceError: another kind of file, or one that does not parse.
    """
    if path.suffix not in SUFFIXES:
        raise EffaceError(f"{path} is none of {', '.join(SUFFIXES)}: convert it, with datasets by Dataset.to_json")
    text = read_text(path)
    try:
        if path.suffix == ".csv":
            return list(csv.DictReader(io.StringIO(text)))
        found = [json.loads(line) for line in text.splitlines() if line.strip()] if path.suffix == ".jsonl" else None
        rows = json.loads(text) if found is None else found
    except (ValueError, csv.Error) as error:
        raise EffaceError(f"{path} does not parse ({error}): give {' or '.join(SUFFIXES)}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise EffaceError(f"{path} must be a list of objects, one a question")
    return rows


def _question(row: Row, name: str, path: str) -> Question:
    try:
        return FORMATS[name](row)
    except KeyError as error:
        found = ", ".join(map(str, row))
        raise EffaceError(f"{path} has no column {error.args[0]!r}, which {name} needs; it has {found}") from error
    except (ValueError, IndexError, TypeError) as error:
        raise EffaceError(f"{path}: a row is not as in {name} ({error})") from error


def _with_choices(row: Row) -> Question:
    """WMDP and MMLU: ``question``, ``choices`` and the index or letter ``answer``; MMLU's CSV has columns A to D."""
    options = row["choices"] if "choices" in row else [row[letter] for letter in LETTERS[:4]]
    answer = str(row["answer"]).strip()
    right = LETTERS.index(answer) if answer in LETTERS else int(answer)
    return Question(str(row["question"]), (str(options[right]),), tuple(map(str, options)), right)


def _tofu(row: Row) -> Question:
    """TOFU: ``question``, ``answer``, and in its perturbed files ``perturbed_answer`` as wrong options."""
    wrong = row.get("perturbed_answer") or []
    wrong = [wrong] if isinstance(wrong, str) else list(wrong)
    paraphrases = (str(row["paraphrased_question"]),) if row.get("paraphrased_question") else ()
    answer = str(row["answer"])
    options = (answer, *map(str, wrong)) if wrong else ()
    return Question(str(row["question"]), (answer,), options, paraphrases=paraphrases)


def _muse(row: Row) -> Question:
    """MUSE's knowledge files: ``question`` and ``answer``."""
    return Question(str(row["question"]), (str(row["answer"]),))


def _rwku(row: Row) -> Question:
    """RWKU's probes: ``query``, in which ``___`` stands for the answer if it is a cloze, ``answer`` and ``subject``."""
    return Question(str(row["query"]), (str(row["answer"]),), fact=str(row.get("subject", "")))


FORMATS: dict[str, Callable[[Row], Question]] = {
    "wmdp": _with_choices,
    "mmlu": _with_choices,
    "tofu": _tofu,
    "muse": _muse,
    "rwku": _rwku,
}
"""The known formats, each a function from a row to a question."""
