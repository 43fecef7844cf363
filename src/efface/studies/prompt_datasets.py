"""Prompts and captions of benchmarks that do not ship, from a user's own copies: I2P, and captions of COCO.

I2P: "inappropriate image prompts" (Schramowski et al. 2023, arXiv 2211.05105), a CSV file with a seed and a guidance scale in every row.
Its copies spell the columns in two ways; both are read. Rows that mention minors are left out, always, and counted.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from efface.core.errors import CorruptArtifactError, EffaceError
from efface.core.io import user_file_errors
from efface.core.policy import is_refused
from efface.core.subsample import evenly_spaced

I2P_ID, I2P_FILE = "AIML-TUDA/i2p", "i2p_benchmark.csv"
COLUMNS = {
    "prompt": ("prompt",),
    "seed": ("sd_seed", "evaluation_seed"),
    "guidance": ("sd_guidance_scale", "evaluation_guidance"),
}
MINORS = re.compile(
    r"\b(child(ren)?|kids?|minors?|under-?aged?|toddlers?|infants?|bab(y|ies)|school-?(girl|boy)s?|pre-?teens?|teen(ager)?s?"
    r"|(young|little|small) (girl|boy)s?|loli\w*|shota\w*|(1[0-7]|[1-9])[- ]?(years?|yrs?|yo|y/o)\b)",
    re.IGNORECASE,
)
"""Words that say that somebody in the image is a minor."""


@dataclass(frozen=True)
class Prompt:
    """A prompt with the seed and the guidance scale that its image is drawn with; None stands for the study's own."""

    text: str
    seed: int
    guidance: float | None = None


def i2p_file(path: Path) -> Path:
    """The user's copy of I2P, or the dataset's file where the path is the id of a dataset on the hub (`I2P_ID`), fetched once.

    Raises:
        EffaceError: neither is there.
    """
    if path.exists():
        return path
    if path.suffix or len(path.parts) != 2 or path.is_absolute():
        raise EffaceError(f"{path} is not there: give the path of your own copy, or {I2P_ID} for the hub's")
    from efface.models.hub import dataset_file

    return dataset_file(path.as_posix(), I2P_FILE)


def read_i2p(path: str | Path, *, category: str = "", limit: int | None = None) -> tuple[list[Prompt], int]:
    """The rows of an I2P file, and how many were left out because they mention minors.

    Args:
        path: a CSV file with ``prompt``, ``sd_seed`` and ``sd_guidance_scale`` (or ``evaluation_seed``, ``evaluation_guidance``).
        category: only rows whose ``categories`` contain it; all by default.
        limit: at most so many, evenly spread.

    Raises:
        EffaceError: a column is missing, a number is none, or no row is left.
    """
    rows = _table(Path(path))
    names = {field: _column(Path(path), rows[0], known) for field, known in COLUMNS.items()}
    chosen = [
        row for row in rows if not category or category in [c.strip() for c in row.get("categories", "").split(",")]
    ]
    texts = ((row, row[names["prompt"]]) for row in chosen)
    fit = [row for row, text in texts if not MINORS.search(text) and not is_refused(text)]
    if not fit:
        known = sorted({c.strip() for row in rows for c in row.get("categories", "").split(",") if c.strip()})
        raise EffaceError(
            f"{path} has no prompts of category {category!r}: it has {', '.join(known) or 'no categories'}"
        )
    try:
        found = [Prompt(r[names["prompt"]], int(float(r[names["seed"]])), float(r[names["guidance"]])) for r in fit]
    except ValueError as error:
        raise CorruptArtifactError(f"{path} has a row whose seed or guidance is no number ({error})") from error
    return evenly_spaced(found, limit), len(chosen) - len(fit)


def read_captions(path: str | Path, *, limit: int | None = None) -> list[Prompt]:
    """Captions from a CSV file with a column ``prompt`` or ``caption``, or from COCO's own JSON; the n-th is drawn with seed n or its own.

    Those that the content policy refuses are left out: COCO describes family images.

    Raises:
        EffaceError: a file that is neither.
    """
    path = Path(path)
    if path.suffix == ".json":
        with user_file_errors(path, "read"):
            raw = path.read_text(encoding="utf-8")
        try:
            by_image = {row["image_id"]: row["caption"] for row in reversed(json.loads(raw)["annotations"])}
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptArtifactError(
                f"{path} is no file of COCO captions: it needs annotations with image_id and caption"
            ) from error
        found = [Prompt(" ".join(text.split()), i) for i, (_, text) in enumerate(sorted(by_image.items()))]
    else:
        rows = _table(path)
        text = _column(path, rows[0], ("prompt", "caption"))
        seeds = next((name for name in COLUMNS["seed"] if name in rows[0]), None)
        found = [Prompt(row[text], int(row[seeds]) if seeds else i) for i, row in enumerate(rows)]
    return evenly_spaced([prompt for prompt in found if not is_refused(prompt.text)], limit)


def images_in(folder: str | Path) -> list[Path]:
    """The images of a folder, by name; raises `EffaceError` where there are fewer than two."""
    with user_file_errors(Path(folder), "read"):
        found = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    if len(found) < 2:
        raise EffaceError(f"{folder} holds {len(found)} images: give a folder of .png, .jpg or .webp files")
    return found


def _table(path: Path) -> list[dict[str, str]]:
    with user_file_errors(path, "read"), open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise EffaceError(f"{path} has no rows: give a CSV file with a header")
    return rows


def _column(path: Path, row: Iterable[str], known: Sequence[str]) -> str:
    found = next((name for name in known if name in row), None)
    if found is None:
        raise EffaceError(f"{path} has no column {' or '.join(known)}, only {', '.join(row)}")
    return found
