"""Tables of the published benchmarks, from docs/published (benchmarks/published.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from joint_tables import senses_table
from result_tables import DOCS, cell, span, table

from efface.benchmarks.result_store import ResultStore
from efface.core.result import Result
from efface.studies.m_erasure import CRR, SCENARIOS, TEXT

Columns = Mapping[str, tuple[str, str]]
"""By title, metric and group of a score."""
ERASE_EVAL: Columns = {
    "m1": ("m1", "name"), "m2": ("m2", "implied"), "m3": ("m3", "other"), "m4": ("m4", "other"),
    "combined": ("erase_eval", "all"),
}  # fmt: skip
LATENTS = [name for name in SCENARIOS if name.startswith("latents")]
M_ERASURE: Columns = {name.replace("_", " "): (CRR, name) for name in (TEXT, *SCENARIOS)} | {
    f"{name.replace('_', ' ')}, control": ("crr_control", name) for name in LATENTS
}
HUB: Columns = {"pinpoint": ("pinpoint", "near"), "RER in Spanish": ("translation_rer", "spanish")}


def published_tables() -> str:
    """A table for each of EraseEval, M-ErasureBench and HUB, and that of words with several senses."""
    stores = sorted((DOCS / "published").glob("*.json"))
    results = {path.stem: result for path in stores for result in ResultStore(path).results.values()}
    return "\n".join(
        [
            *_section("EraseEval", ERASE_EVAL, results),
            *_section("M-ErasureBench: concept reproduction rates", M_ERASURE, results),
            *_section("HUB", HUB, results),
            "### Senses",
            "",
            senses_table(),
        ]
    )


def _section(title: str, columns: Columns, results: Mapping[str, Result]) -> Sequence[str]:
    rows = [
        [f"[{method}](methods/{method}.md)", *(cell(result.score(*key)) for key in columns.values())]
        for method, result in results.items()
    ]
    counts = sorted({score.n for r in results.values() for key in columns.values() if (score := r.score(*key))})
    size = f"n = {span(counts)} images." if counts else ""
    return [f"### {title}", "", size, "", *table(["method", *columns], rows), ""]
