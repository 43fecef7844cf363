"""How the report spells numbers, spans and metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from efface.core.score import Score


class Metric(NamedTuple):
    """A metric's label, and what it says in one line."""

    label: str
    meaning: str


METRICS: dict[str, Metric] = {
    "rer": Metric(
        "RER",
        "Relative erasure rate, 1 - N_after / N_before, N counting images that show the concept: 1 gone, 0 as before.",
    ),
    "abstention_rate": Metric(
        "Cannot tell",
        "Share of the erased model's images that the detector cannot read: if large, they are destroyed.",
    ),
    "abstention_rate_before": Metric(
        "Cannot tell, before", "The same share of the base model's images, to compare with."
    ),
    "retention": Metric(
        "Kept",
        "Share of right images that is left, R_after / R_before, R counting images that show what was asked for.",
    ),
    "asr_pre": Metric(
        "ASR, pre", "Attack success rate of the prompts as they stand: share of images that show the concept."
    ),
    "asr_post": Metric(
        "ASR, post", "Attack success rate after the attack has worked on the prompts: share that shows the concept."
    ),
    "seconds_per_success": Metric(
        "Seconds a success", "Seconds of the attack's search for each prompt that succeeded."
    ),
    "kid": Metric(
        "KID",
        "Unbiased distance of the images' features after from before: 0 is alike, and it may be slightly negative.",
    ),
    "fid": Metric("FID", "Fréchet distance of the images' features after from before; biased at small n."),
    "fid_before": Metric("FID, before", "The base model's own with other seeds, to compare with."),
    "clip_score": Metric(
        "CLIP score", "Agreement of image and prompt by the unedited CLIP towers, 100 max(cos, 0), after."
    ),
    "clip_score_before": Metric("CLIP score, before", "The same of the base model's images, to compare with."),
    "h_o": Metric("H_o", "MACE's harmonic mean of efficacy, specificity and generality."),
    "h_c": Metric("H_c", "MACE's harmonic mean of efficacy and specificity."),
    "efficacy": Metric("Efficacy", "Share of images of the concept's name that do not show it."),
    "generality": Metric("Generality", "Share of images of the concept's other words that do not show it."),
    "specificity": Metric("Specificity", "Share of images of everything else that show what was asked for."),
}
GROUPS: dict[str, tuple[str, str]] = {
    "name": ("Name", "Prompts with the concept's own name."),
    "domain": ("Domain", "Prompts with other words for the concept: synonyms, kinds of it, descriptions."),
    "near": ("Near", "Near neighbours of the concept, which must stay."),
    "other": ("Other", "Unrelated prompts, which must stay."),
    "context": ("Context", "The rest of the concept's own prompts: background and style."),
    "all": ("All", "All groups together."),
}
LONG = 600
"""Characters beyond which a value is cut."""
_FINE = ("kid", "fid")


def metric(name: str) -> Metric:
    """A metric's label and meaning; one that is not known has its name only."""
    if name.startswith("kept_") and name not in METRICS:
        head = name.removeprefix("kept_")
        return Metric(f"Kept {head}", f"Share of images with the right {head} that is left of before.")
    return METRICS.get(name, Metric(name, ""))


def group_label(name: str) -> str:
    """A group's label; an attack's is its name."""
    return GROUPS[name][0] if name in GROUPS else name


def digits_of(score: Score, digits: int = 2) -> int:
    """Decimal places for a score: as given, but two significant ones where the scale is small and open, as KID's is."""
    sizes = [abs(number) for number in (score.value, score.low, score.high) if number]
    if score.metric not in _FINE or not sizes or max(sizes) >= 10 ** (1 - digits):
        return digits
    return min(1 - math.floor(math.log10(max(sizes))), 8)


def format_number(number: float | None, digits: int = 2) -> str:
    """A number with so many decimal places, ``N/A`` where there is none."""
    if number is None:
        return "N/A"
    text = f"{number:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def format_interval(score: Score, digits: int = 2) -> str:
    """Such as ``[0.91, 0.98]``; empty where there is none."""
    return (
        ""
        if score.low is None or score.high is None
        else f"[{format_number(score.low, digits)}, {format_number(score.high, digits)}]"
    )


def format_cell(score: Score | None, digits: int = 2) -> str:
    """Such as ``0.95 [0.91, 0.98]``; ``N/A`` where there is no value."""
    if score is None:
        return "N/A"
    places = digits_of(score, digits)
    return f"{format_number(score.value, places)} {format_interval(score, places)}".rstrip()


def format_range(numbers: Iterable[int]) -> str:
    """Whole numbers as spans: ``3, 7-9 (4)``."""
    found: list[list[int]] = []
    given = sorted(set(numbers))
    for number in given:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    texts = [str(a) if a == b else f"{a}-{b}" for a, b in found]
    shown = ", ".join(texts[:8]) + (", …" if texts[8:] else "")
    return f"{shown} ({len(given)})" if len(given) > 1 else shown


def format_duration(seconds: float) -> str:
    """Such as ``18.4 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    if seconds < 100:
        return f"{seconds:.1f}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}\u00a0min {rest}\u00a0s" if minutes < 100 else f"{minutes // 60}\u00a0h {minutes % 60}\u00a0min"


def format_time(text: Any) -> str:
    """An ISO time as ``2026-03-02 10:11 UTC``; other text as it is."""
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return str(text)
    return when.strftime("%Y-%m-%d %H:%M") + (f" {when.tzname()}" if when.tzinfo else "")


def format_size(count: float) -> str:
    """Bytes in binary units."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def format_value(value: Any) -> str:
    """A plain value as one line of text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {format_value(item)}" for key, item in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(format_value(item) for item in value) or "none"
    return str(value) or "(empty)"


def flatten(data: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Nested mappings as rows ``("benchmark name", "pocket-weapon")``; long hexadecimal hashes are cut to 12 digits."""
    rows: list[tuple[str, str]] = []
    for key, value in data.items():
        name = f"{above} {key}".strip().replace("_", " ")
        if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            value = {str(i): item for i, item in enumerate(value, 1)}
        rows += flatten(value, name) if isinstance(value, Mapping) and value else [(name, shorten(format_value(value)))]
    return rows


def shorten(text: str) -> str:
    """A SHA-256 as its first 12 digits, and very long text cut; other text as it is."""
    if len(text) == 64 and not set(text) - set("0123456789abcdef"):
        return text[:12]
    return text if len(text) <= LONG else text[:LONG] + "…"
