"""Results side by side as a Markdown or LaTeX table."""

from __future__ import annotations

from collections.abc import Mapping

from efface.core.errors import EffaceError
from efface.core.result import Result

from .formatting import format_cell

COLUMNS = (
    ("rer", "name"), ("rer", "domain"), ("retention", "near"), ("retention", "other"), ("retention", "context"), ("kid", "other"), ("h_o", "all"),
)  # fmt: skip
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def markdown_table(results: Mapping[str, Result]) -> str:
    """A Markdown table: a row a result, a column a score with its interval, and in the last column every score's n.

    Args:
        results: by the name of the row.

    Raises:
        EffaceError: no results.
    """
    head, *rows = [[_markdown(text) for text in row] for row in _rows(results)]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex_table(results: Mapping[str, Result]) -> str:
    r"""The table of `markdown_table` as a LaTeX ``tabular`` (needs ``booktabs``).

    Raises:
        EffaceError: no results.
    """
    head, *rows = [" & ".join(_latex(text) for text in row) + r" \\" for row in _rows(results)]
    columns = "l" + "r" * (len(_columns(results)) + 1)
    body = "\n".join([r"\toprule", head, r"\midrule", *rows, r"\bottomrule"])
    return f"\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}\n"


def _columns(results: Mapping[str, Result]) -> list[tuple[str, str]]:
    attacks = {
        score.group: None for result in results.values() for score in result.scores if score.metric == "asr_post"
    }
    return [*COLUMNS, *(("asr_post", attack) for attack in attacks)]


def _rows(results: Mapping[str, Result]) -> list[list[str]]:
    if not results:
        raise EffaceError("no results to make a table of: evaluate at least one erasure")
    columns = _columns(results)
    rows = [["", *(f"{metric}/{group}" for metric, group in columns), "n"]]
    for name, result in results.items():
        scores = [result.score(metric, group) for metric, group in columns]
        rows.append(
            [
                name,
                *(format_cell(score) for score in scores),
                "/".join("0" if score is None else str(score.n) for score in scores),
            ]
        )
    return rows


def _markdown(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
