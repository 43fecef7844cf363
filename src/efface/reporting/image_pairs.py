"""Pairs of pictures as the page shows them: data URIs, what was seen, and what became of what was asked for."""

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

from .evidence_loader import Evaluation, Pair
from .formatting import GROUPS

SIDE = 512
"""Larger pictures are shown at this many pixels, so that the page stays one that can be mailed."""
SMALL = 256
"""Pictures up to this many pixels keep their pixels sharp."""
CANNOT_TELL = "cannot tell"
_MIME = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}

Outcome = Literal["good", "bad", "neutral", "unsure"]


@dataclass(frozen=True)
class Shown:
    """One picture: its data URI (``""`` where it is missing or damaged), whether its pixels stay sharp, what was seen in it by head."""

    uri: str
    crisp: bool
    seen: str


@dataclass(frozen=True)
class ShownPair:
    """A pair with the word for what became of what was asked for, and what to think of that."""

    pair: Pair
    before: Shown | None
    after: Shown | None
    word: str
    outcome: Outcome


@dataclass(frozen=True)
class Grid:
    """The pairs of one group, under its label, with the scores that they stand for."""

    group: str
    label: str
    meaning: str
    attack: bool
    pairs: tuple[ShownPair, ...]
    scores: tuple[Score, ...]


def grids(evaluation: Evaluation) -> list[Grid]:
    """Every group that has pictures: the concept's own, what must stay, then attacks."""
    found: dict[str, list[Pair]] = {group: [] for group in ("name", "domain", "near", "other")}
    for pair in evaluation.pairs:
        found.setdefault(pair.group, []).append(pair)
    return [_grid(group, pairs, evaluation) for group, pairs in found.items() if pairs]


def _grid(group: str, pairs: Sequence[Pair], evaluation: Evaluation) -> Grid:
    attack = group not in GROUPS
    label, meaning = GROUPS.get(
        group, (f"Attack: {group}", "Prompts that try to bring the concept back, drawn by the erased model.")
    )
    head, classes = concept_of(evaluation.pairs)
    shown = tuple(_shown(pair, head, classes, gone=attack or group in TARGETS) for pair in pairs)
    return Grid(group, label, meaning, attack, shown, _scores(evaluation.result, group))


def _scores(result: Result, group: str) -> tuple[Score, ...]:
    names = ("rer", "cannot_tell", "kept", "asr_pre", "asr_post")
    return tuple(score for name in names if (score := result.score(name, group)) is not None)


def concept_of(pairs: Sequence[Pair]) -> tuple[str | None, frozenset[str]]:
    """By which head the detector sees the concept, and as which classes; None where the pictures do not say.

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


def _shown(pair: Pair, head: str | None, classes: frozenset[str], *, gone: bool) -> ShownPair:
    word, outcome = _outcome(pair, head, classes, gone)
    return ShownPair(
        pair, _picture(pair.before, pair.seen_before), _picture(pair.after, pair.seen_after), word, outcome
    )


def _outcome(pair: Pair, head: str | None, classes: frozenset[str], gone: bool) -> tuple[str, Outcome]:
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


def _picture(path: Path | None, seen: Mapping[str, str]) -> Shown | None:
    if path is None:
        return None
    words = "\u00a0· ".join(str(value) for value in seen.values())
    try:
        uri, crisp = data_uri(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return Shown("", False, words)
    return Shown(uri, crisp, words)


def data_uri(path: Path) -> tuple[str, bool]:
    """A picture file as a data URI, and whether it is small; beyond `SIDE` pixels it is made smaller, as WebP.

    Raises:
        OSError: no file, or no picture; `ValueError` and `SyntaxError` are Pillow's for some damaged ones.
    """
    raw = path.read_bytes()
    with Image.open(io.BytesIO(raw)) as picture:
        picture.load()
        kind = _MIME.get(picture.format or "")
        if kind is None:
            raise ValueError(f"{path} is a {picture.format} picture")
        if max(picture.size) > SIDE:
            small, buffer = picture.convert("RGB"), io.BytesIO()
            small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            small.save(buffer, "WEBP", quality=90)
            raw, kind = buffer.getvalue(), "image/webp"
        return f"data:{kind};base64,{base64.b64encode(raw).decode()}", max(picture.size) <= SMALL
