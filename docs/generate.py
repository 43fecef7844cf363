"""Write the generated parts of docs/; with ``--check``, list the stale pages and exit with 1."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from attack_tables import attack_rates
from autoencoder_tables import autoencoder_tables
from choice import CHARTS as CHOICE_CHARTS
from choice import choice_table
from matrix_chart import CHARTS as MATRIX_CHARTS
from matrix_tables import matrix_tables
from method_pages import comparison, method_page
from pocket_tables import pocket_flow_tables, pocket_janus_tables, pocket_tables, world_tables
from published_tables import published_tables
from reference_tables import benchmark_table, command_reference, concept_table, model_matrix
from result_tables import single_results

from efface.core.registry import ATTACKS, METHODS

DOCS = Path(__file__).parent
COSTS = DOCS.parent / "src" / "efface" / "core" / "data" / "pocket_costs.json"
GENERATED: dict[str, Callable[[], str]] = {
    "pocket.md": pocket_tables,
    "pocket-flow.md": pocket_flow_tables,
    "pocket-janus.md": pocket_janus_tables,
    "pocket-lm.md": autoencoder_tables,
    "world.md": world_tables,
    "cli.md": command_reference,
    "methods.md": comparison,
    "which_method_when.md": choice_table,
    "benchmarks.md": benchmark_table,
    "attacks.md": attack_rates,
    "matrix.md": matrix_tables,
    "published_benchmarks.md": published_tables,
    "concepts.md": concept_table,
    "model_matrix.md": model_matrix,
    **{f"methods/{name}.md": partial(method_page, METHODS, name) for name in METHODS.names()},
    **{f"attacks/{name}.md": partial(method_page, ATTACKS, name) for name in ATTACKS.names()},
}
"""By page, the function that writes its generated part."""
FILES: dict[Path, Callable[[], str]] = {
    DOCS / name: write for name, write in {**CHOICE_CHARTS, **MATRIX_CHARTS}.items()
}
"""By file that is generated as a whole, the function that writes it."""
MARKS = re.compile(r"(<!-- generated -->\n)(?:.*?\n)??(<!-- end -->)", re.DOTALL)


def empty_page(path: Path) -> str:
    """A new page with a heading and no text around its generated part."""
    registry = {"methods": METHODS, "attacks": ATTACKS}.get(path.parent.name)
    title = registry.card(path.stem).title if registry else path.stem
    return f"# {title}\n\n<!-- generated -->\n\n<!-- end -->\n"


def cost_file() -> str:
    """The package's copy of the methods' costs on pocket: seconds of one erasure of weapon."""
    costs: dict[str, float] = {}
    for name in METHODS.names():
        result = single_results(name).get("pocket-weapon")
        if result is not None:
            costs[name] = float(f"{result.metadata['cost']['seconds']:.2g}")
    return json.dumps(costs, indent=2) + "\n"


FILES[COSTS] = cost_file


def _is_current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def main() -> None:
    """Write the pages and the file of costs, or check them."""
    check_only = "--check" in sys.argv
    stale = [path.name for path, write in FILES.items() if not _is_current(path, write())]
    for path, write in FILES.items():
        if path.name in stale and not check_only:
            path.write_text(write(), encoding="utf-8")
    for name, generate in GENERATED.items():
        path = DOCS / name
        old = path.read_text(encoding="utf-8") if path.is_file() else ""
        text = generate()
        new, count = MARKS.subn(lambda marks, text=text: f"{marks[1]}{text}\n{marks[2]}", old or empty_page(path))  # type: ignore[misc]
        if count != 1:
            sys.exit(f"{path} needs one generated part, between <!-- generated --> and <!-- end -->")
        if new == old:
            continue
        stale.append(name)
        if not check_only:
            path.parent.mkdir(exist_ok=True)
            path.write_text(new, encoding="utf-8")
    if stale and check_only:
        sys.exit(f"stale: {', '.join(stale)}; run `make docs`")
    print(f"docs: {'current' if not stale else 'wrote ' + ', '.join(stale)}")


if __name__ == "__main__":
    main()
