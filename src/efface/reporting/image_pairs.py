"""Pairs of images as the page shows them: data URIs, what was seen, and what became of what was asked for."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from efface.core.result import Result
from efface.core.score import Score
from efface.core.verdict import TARGETS

from .evidence_loader import ImagePair, LoadedEvaluation
from .formatting import GROUPS

SIDE = 512
"""Larger images are shown at this many pixels, so that the page stays one that can be mailed."""
SMALL = 256
"""Images up to this many pixels keep their pixels sharp."""
CANNOT_TELL = "cannot tell"
_MIME = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}

Outcome = Literal["good", "bad", "neutral", "unsure"]


@dataclass(frozen=True)
class ImageView:
    """One image: its data URI (``""`` where it is missing or damaged), whether its pixels stay sharp, what was seen in it by head."""

    uri: str
    crisp: bool
    seen: str


@dataclass(frozen=True)
class PairView:
    """A pair with the word for what became of what was asked for, and what to think of that."""

    pair: ImagePair
    before: ImageView | None
    after: ImageView | None
    word: str
    outcome: Outcome


@dataclass(frozen=True)
class PairGrid:
    """The pairs of one group, under its label, with the scores that they stand for."""

    group: str
    label: str
    meaning: str
    attack: bool
    pairs: tuple[PairView, ...]
    scores: tuple[Score, ...]


def pair_grids(evaluation: LoadedEvaluation) -> list[PairGrid]:
    """Every group that has images: the concept's own, what must stay, then attacks."""
    found: dict[str, list[ImagePair]] = {group: [] for group in ("name", "domain", "near", "other")}
    for pair in evaluation.pairs:
        found.setdefault(pair.group, []).append(pair)
    return [_grid(group, pairs, evaluation) for group, pairs in found.items() if pairs]


def _grid(group: str, pairs: Sequence[ImagePair], evaluation: LoadedEvaluation) -> PairGrid:
    attack = group not in GROUPS
    label, meaning = GROUPS.get(
        group, (f"Attack: {group}", "Prompts that try to bring the concept back, drawn by the erased model.")
    )
    head, classes = concept_of(evaluation.pairs)
    shown = tuple(_shown(pair, head, classes, gone=attack or group in TARGETS) for pair in pairs)
    return PairGrid(group, label, meaning, attack, shown, _scores(evaluation.result, group))


def _scores(result: Result, group: str) -> tuple[Score, ...]:
    names = ("rer", "abstention_rate", "retention", "asr_pre", "asr_post")
    return tuple(score for name in names if (score := result.score(name, group)) is not None)


def concept_of(pairs: Sequence[ImagePair]) -> tuple[str | None, frozenset[str]]:
    """By which head the detector sees the concept, and as which classes; None where the images do not say.

    It is the head of which all prompts with the concept's name ask the same, and no prompt of near and other asks any of that.
    """
    named = [pair for pair in pairs if pair.group == "name"]
    found = []
    for head in sorted({head for pair in named for head in pair.asked}):
        wanted = {frozenset(pair.asked.get(head, ())) for pair in named}
        others = {name for pair in pairs if pair.group in ("near", "other") for name in pair.asked.get(head, ())}
        if len(wanted) == 1 and not (classes := next(iter(wanted))) & others:
            found.append((head, classes))
    return found[0] if len(found) == 1 else (None, frozenset())


def _shown(pair: ImagePair, head: str | None, classes: frozenset[str], *, gone: bool) -> PairView:
    word, outcome = _outcome(pair, head, classes, gone)
    return PairView(pair, _image(pair.before, pair.seen_before), _image(pair.after, pair.seen_after), word, outcome)


def _outcome(pair: ImagePair, head: str | None, classes: frozenset[str], gone: bool) -> tuple[str, Outcome]:
    if head is None or head not in pair.seen_after:
        return "", "neutral"
    wanted = classes if gone else frozenset(pair.asked.get(head, ()))
    if not wanted:
        return "", "neutral"
    before, after = pair.seen_before.get(head), pair.seen_after[head]
    if gone:
        if after in wanted:
            return "concept seen", "bad"
        if after == CANNOT_TELL:
            return "cannot tell", "unsure"
        return (
            ("not seen before either", "neutral") if before is not None and before not in wanted else ("gone", "good")
        )
    if after in wanted:
        return "kept", "good"
    if before is not None and before not in wanted:
        return "wrong before too", "neutral"
    return "lost", "bad"


def _image(path: Path | None, seen: Mapping[str, str]) -> ImageView | None:
    if path is None:
        return None
    words = "\u00a0· ".join(str(value) for value in seen.values())
    try:
        uri, crisp = data_uri(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ImageView("", False, words)
    return ImageView(uri, crisp, words)


def data_uri(path: Path) -> tuple[str, bool]:
    """An image file as a data URI, and whether it is small; beyond `SIDE` pixels it is made smaller, as WebP.

    Raises:
        OSError: no file, or no image; `ValueError` and `SyntaxError` are Pillow's for some damaged ones.
    """
    raw = path.read_bytes()
    with Image.open(io.BytesIO(raw)) as image:
        image.load()
        kind = _MIME.get(image.format or "")
        if kind is None:
            raise ValueError(f"{path} is a {image.format} image")
        if max(image.size) > SIDE:
            small, buffer = image.convert("RGB"), io.BytesIO()
            small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            small.save(buffer, "WEBP", quality=90)
            raw, kind = buffer.getvalue(), "image/webp"
        return f"data:{kind};base64,{base64.b64encode(raw).decode()}", max(image.size) <= SMALL
