"""Prompts and captions of data sets that do not ship, read from a user's own copies: I2P and captions of COCO.

I2P is "inappropriate image prompts" (Schramowski et al. 2023, arXiv 2211.05105), a CSV file with a seed and a guidance
scale in every row. Its copies name the columns in two ways; both are read. Prompts that mention minors are always left
out, and counted.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from efface.core.errors import CorruptArtifactError, EffaceError
from efface.core.io import IMAGE_SUFFIXES, user_file_errors
from efface.core.policy import is_refused
from efface.core.subsample import evenly_spaced
from efface.core.text_files import TableRow, find_column, parse_finite, parse_seed, read_table, read_text

I2P_ID, I2P_FILE = "AIML-TUDA/i2p", "i2p_benchmark.csv"
COLUMNS = {
    "prompt": ("prompt",),
    "seed": ("sd_seed", "evaluation_seed"),
    "guidance_scale": ("sd_guidance_scale", "evaluation_guidance"),
}
"""Names of I2P's columns in its copies, by the field of `Prompt` that they fill."""
MINORS = re.compile(
    r"\b(child(ren)?|kids?|minors?|under-?aged?|toddlers?|infants?|bab(y|ies)|school-?(girl|boy)s?|pre-?teens?|teen(ager)?s?"
    r"|(young|little|small) (girl|boy)s?|loli\w*|shota\w*|(1[0-7]|[1-9])[- ]?(years?|yrs?|yo|y/o)\b)",
    re.IGNORECASE,
)
"""Words that mention a minor."""


@dataclass(frozen=True)
class Prompt:
    """A prompt with the settings of its image.

    Attributes:
        text: the prompt.
        seed: seed of the image.
        guidance_scale: guidance scale of the image; None selects the study's own.
    """

    text: str
    seed: int
    guidance_scale: float | None = None


def locate_i2p(path: Path) -> Path:
    """Returns the user's copy of I2P, or downloads the file once if the path is the id of a data set on the hub.

    Raises:
        EffaceError: there is no such file, or the hub cannot be reached.
    """
    if path.exists():
        return path
    if path.suffix or len(path.parts) != 2 or path.is_absolute():
        raise EffaceError(f"{path} does not exist: give the path of your own copy, or {I2P_ID} to download it")
    from efface.models.hub import download_dataset_file

    return download_dataset_file(path.as_posix(), I2P_FILE)


def read_i2p(path: str | Path, *, category: str = "", limit: int | None = None) -> tuple[list[Prompt], int]:
    """Reads the prompts of an I2P file.

    Args:
        path: CSV file with the columns ``prompt``, ``sd_seed`` and ``sd_guidance_scale`` (or ``evaluation_seed`` and
            ``evaluation_guidance``).
        category: read only rows whose ``categories`` contain it; all by default.
        limit: maximum number of prompts, evenly spread.

    Returns:
        The prompts, and the number of rows left out because they mention minors.

    Raises:
        EffaceError: a column is missing, no row is left, or the category is unknown.
        CorruptArtifactError: a row of another length than the header, a seed that is not a whole number, or a guidance
            scale that is not a number; the message names the line.
    """
    path = Path(path)
    rows = read_table(path)
    columns = {field: find_column(path, rows[0], names) for field, names in COLUMNS.items()}
    selected = [row for row in rows if not category or category in _categories(row)]
    allowed = [row for row in selected if _is_allowed(row.values[columns["prompt"]])]
    if not allowed:
        known = ", ".join(sorted({name for row in rows for name in _categories(row)})) or "no categories"
        raise EffaceError(f"{path} has no prompts of category {category!r}: it has {known}")
    prompts = [
        Prompt(
            row.values[columns["prompt"]],
            parse_seed(row.values[columns["seed"]], row.where),
            parse_finite(row.values[columns["guidance_scale"]], "guidance scale", row.where),
        )
        for row in allowed
    ]
    return evenly_spaced(prompts, limit), len(selected) - len(allowed)


def read_captions(path: str | Path, *, limit: int | None = None) -> list[Prompt]:
    """Reads captions; the n-th has the seed n, unless a CSV file has a column with seeds.

    Captions that the content policy refuses are left out: COCO describes family images.

    Args:
        path: CSV file with a column ``prompt`` or ``caption``, or COCO's own JSON file (one caption per image).
        limit: maximum number of captions, evenly spread.

    Raises:
        EffaceError: the file has no such column.
        CorruptArtifactError: the JSON file is not one of COCO's.
    """
    path = Path(path)
    captions = _read_coco_json(path) if path.suffix == ".json" else _read_caption_csv(path)
    return evenly_spaced([caption for caption in captions if not is_refused(caption.text)], limit)


def _read_coco_json(path: Path) -> list[Prompt]:
    raw = read_text(path)
    try:
        rows = reversed(json.loads(raw)["annotations"])  # reversed, so that the first caption of an image stays
        by_image = {row["image_id"]: row["caption"] for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptArtifactError(
            f"{path} is not a file of COCO captions: it needs annotations with image_id and caption"
        ) from error
    return [Prompt(" ".join(by_image[image].split()), i) for i, image in enumerate(sorted(by_image))]


def _read_caption_csv(path: Path) -> list[Prompt]:
    rows = read_table(path)
    text = find_column(path, rows[0], ("prompt", "caption"))
    seeds = next((name for name in COLUMNS["seed"] if name in rows[0].values), None)
    return [
        Prompt(row.values[text], parse_seed(row.values[seeds], row.where) if seeds else i) for i, row in enumerate(rows)
    ]


def list_images(folder: str | Path) -> list[Path]:
    """Lists the image files of a folder, sorted by name; raises `EffaceError` for fewer than two."""
    with user_file_errors(Path(folder), "read"):
        images = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if len(images) < 2:
        raise EffaceError(f"{folder} holds {len(images)} images: give a folder of .png, .jpg or .webp files")
    return images


def _categories(row: TableRow) -> list[str]:
    """Lists the categories of an I2P row."""
    names = (name.strip() for name in row.values.get("categories", "").split(","))
    return [name for name in names if name]


def _is_allowed(text: str) -> bool:
    return not MINORS.search(text) and not is_refused(text)
