"""UnlearnCanvas' aggregation (Zhang et al., 2024, arXiv 2402.11846): UA, IRA and CRA from a table of detections.

For a target style t: unlearning accuracy UA is the share of images of t in which the classifier does not see t;
in-domain retain accuracy IRA the share of the other styles' images with the correct style; cross-domain retain accuracy
CRA the share of images with the correct object. For a target object, styles and objects change roles.

The official repository has no aggregation script, and its texts differ on CRA. Here, images of the target never count
as retained, as its README says; ``cross_domain="all"`` counts them, as its accuracy script does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from efface.core.errors import EffaceError, UnknownNameError
from efface.core.score import Provenance, Score
from efface.core.text_files import parse_seed, read_table

COLUMNS = ("style", "object", "seed", "detected_style", "detected_object")
DOMAINS = ("style", "object")
CrossDomain = Literal["others", "all"]


@dataclass(frozen=True)
class Detection:
    """One image: the style and object that its prompt names, and those that a classifier sees."""

    style: str
    object: str
    seed: int
    detected_style: str
    detected_object: str

    def is_correct(self, domain: str) -> bool:
        """Whether the classifier sees the style, or the object, that the prompt names."""
        return bool(getattr(self, domain) == getattr(self, f"detected_{domain}"))


def read_detections(path: Path) -> list[Detection]:
    """Reads a CSV file with the columns `COLUMNS`; ``Van_Gogh`` and ``van gogh`` are one name.

    Raises:
        EffaceError: the file cannot be read, a column is missing, a seed is invalid, or an image is listed twice.
    """
    rows = []
    for row in read_table(path):
        if missing := [name for name in COLUMNS if name not in row.values]:
            raise EffaceError(f"{path} has no column {missing[0]}: it needs {', '.join(COLUMNS)}")
        texts = {name: _name(row.values[name]) for name in COLUMNS if name != "seed"}
        rows.append(Detection(**texts, seed=parse_seed(row.values["seed"], row.where)))
    seen: set[tuple[str, str, int]] = set()
    for item in rows:
        key = (item.style, item.object, item.seed)
        if key in seen:
            raise EffaceError(
                f"{path} lists the image of {item.style}, {item.object}, seed {item.seed} twice: keep one"
            )
        seen.add(key)
    return rows


def aggregate(
    detections: Sequence[Detection], domain: str, target: str, cross_domain: CrossDomain = "others"
) -> tuple[Score, Score, Score]:
    """Returns UA, IRA and CRA of one erased style or object, each with Wilson's interval.

    Args:
        detections: the images of the erased model.
        domain: ``style`` or ``object``, the domain of the target.
        target: the erased style or object.
        cross_domain: whether CRA counts the images of ``others`` only, or ``all``.

    Raises:
        UnknownNameError: an unknown domain or target.
    """
    if domain not in DOMAINS:
        raise UnknownNameError("domain", domain, DOMAINS)
    name = _name(target)
    known = {str(getattr(item, domain)) for item in detections}
    if name not in known:
        raise UnknownNameError(domain, name, known)
    other_domain = DOMAINS[1 - DOMAINS.index(domain)]
    own = [item for item in detections if getattr(item, domain) == name]
    others = [item for item in detections if getattr(item, domain) != name]
    crossed = others if cross_domain == "others" else detections
    return (
        _rate("ua", name, (not item.is_correct(domain) for item in own)),
        _rate("ira", name, (item.is_correct(domain) for item in others)),
        _rate("cra", name, (item.is_correct(other_domain) for item in crossed)),
    )


def _rate(metric: str, group: str, hits: Iterable[bool]) -> Score:
    values = list(hits)
    return Score.rate(metric, group, sum(values), len(values), None, Provenance())


def _name(text: str) -> str:
    return " ".join(text.replace("_", " ").split()).lower()
