"""What was measured of a method on pocket, as the tables of its page: from docs/results."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from efface.benchmarks.benchmark import names
from efface.core.registry import ATTACKS
from efface.core.result import Result
from efface.reporting.tables import markdown_table
from efface.studies.ablation import plot, table
from efface.studies.ablation import read as read_study

DOCS = Path(__file__).parent


def measured(name: str) -> list[str]:
    """The tables of a method's results on pocket, from docs/results."""
    found: dict[int, dict[str, Result]] = {}
    for path in sorted(p for p in (DOCS / "results").glob(f"{name}-pocket-*.json") if "-on-" not in p.stem):
        result = Result.load(path)
        found.setdefault(int(result.metadata["root_seed"]), {})[result.metadata["benchmark"]["name"]] = result
    lines = []
    if results := found.get(0, {}):
        costs = [float(result.metadata["cost"]["seconds"]) for result in results.values()]
        cores = {int(result.metadata["cost"].get("threads", 2)) for result in results.values()}
        said = " or ".join({1: "one core", 2: "two cores"}.get(n, f"{n} cores") for n in sorted(cores))
        fast, slow = (f"{cost:.0f}" if cost >= 10 else f"{cost:.1f}" for cost in (min(costs), max(costs)))
        spent = f"{fast} to {slow} s each" if len(costs) > 1 else f"{fast} s"
        how = f"preset `pocket` where there is one, seed 0 (`python benchmarks/effect.py {name}`); {spent} on {said}"
        lines += ["", f"Measured on pocket, test part, {how}:"]
        lines += ["", markdown_table(results).strip(), "", "| benchmark | verdict |", "|---|---|"]
        lines += [f"| {benchmark} | {result.summary()} |" for benchmark, result in results.items()]
    lines += (
        over_seeds(found)
        + searched(results)
        + compared(name)
        + together(name)
        + transferred(name)
        + placed(name)
        + varied(name)
    )
    if (DOCS / "methods" / f"{name}.png").is_file():
        lines += ["", f"![weapon erased by {name}, before and after]({name}.png)"]
    return lines


def over_seeds(found: dict[int, dict[str, Result]]) -> list[str]:
    """Where a benchmark was measured with several seeds: the mean, the lowest and the highest of each score."""
    shown = (
        ("rer", "name"),
        ("rer", "domain"),
        ("retention", "near"),
        ("retention", "other"),
        ("retention", "context"),
    )
    attacks = [("asr_post", attack) for attack in ATTACKS.names()]
    by_benchmark: dict[str, list[Result]] = {}
    for results in found.values():
        for benchmark, result in results.items():
            by_benchmark.setdefault(benchmark, []).append(result)
    several = {benchmark: results for benchmark, results in by_benchmark.items() if len(results) > 1}
    columns = [
        key for key in (*shown, *attacks) if any(len(_values(runs, *key)) == len(runs) for runs in several.values())
    ]
    if not several:
        return []
    head = ["", "Over seeds (`--seeds 3`), mean (lowest to highest):", ""]
    head += [
        f"| benchmark | seeds | {' | '.join('/'.join(key) for key in columns)} |",
        "|---|---|" + "---|" * len(columns),
    ]
    rows = []
    for benchmark, results in several.items():
        cells = []
        for key in columns:
            values = _values(results, *key)
            whole = len(values) == len(results)  # an attack may have been tried on one seed only
            cells.append(f"{sum(values) / len(values):.2f} ({min(values):.2f} to {max(values):.2f})" if whole else "-")
        rows.append(f"| {benchmark} | {len(results)} | {' | '.join(cells)} |")
    return head + rows


def _values(results: list[Result], metric: str, group: str) -> list[float]:
    scores = [result.score(metric, group) for result in results]
    return [score.value for score in scores if score is not None and score.value is not None]


def searched(results: dict[str, Result]) -> list[str]:
    """What the attacks' searches found, by benchmark, and the seconds of a search for each prompt that succeeded."""
    rows = []
    for benchmark, result in results.items():
        for attack in ATTACKS.names():
            score, cost = (result.score(m, attack) for m in ("asr_post", "seconds_per_success"))
            if score is None or score.value is None or not score.provenance.attack_steps:
                continue
            spent = "no success" if cost is None or cost.value is None else f"{cost.value:.2g}"
            total = f"{score.provenance.attack_seconds or 0:.0f}"
            rows.append(
                f"| {benchmark} | {attack} | {score.value:.2f} | {score.n} | {score.provenance.attack_steps} | {total} | {spent} |"
            )
    if not rows:
        return []
    head = ["", "Attacks with a search, their budgets, and what a success costs:", ""]
    return [
        *head,
        "| benchmark | attack | ASR after | n | steps | seconds of the search | a success |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]


COMPARED = {"sage": ("sage", "esd", "esd-text", "advunlearn")}
"""Methods and variants whose results stand side by side on a method's page."""


def compared(name: str) -> list[str]:
    """A method beside its baselines, benchmark by benchmark."""
    lines: list[str] = []
    for benchmark in names():
        paths = {label: DOCS / "results" / f"{label}-{benchmark}-0.json" for label in COMPARED.get(name, ())}
        results = {label: Result.load(path) for label, path in paths.items() if path.is_file()}
        if len(results) > 1:
            lines += ["", f"Beside its baselines on {benchmark}, seed 0:", "", markdown_table(results).strip()]
    return lines


def together(name: str) -> list[str]:
    """What is left of each concept, and of the rest, when a method erases all of them at once."""
    paths = sorted((DOCS / "results").glob(f"{name}-together-pocket-*.json"))
    if not paths:
        return []
    results = {str(result.metadata["benchmark"]["name"]): result for result in map(Result.load, paths)}
    head = (
        f"The concepts of these benchmarks erased at once (`python benchmarks/effect.py {name} --together --attack none --benchmark ...`), "
        "seed 0; of each benchmark, the prompts for another of the concepts are left out:"
    )
    return ["", head, "", markdown_table(results).strip()]


def transferred(name: str) -> list[str]:
    """What a method's erasures do on another model that shares the text encoder, beside what they do on their own."""
    groups, lines = (("rer", "name"), ("rer", "domain"), ("retention", "near"), ("retention", "other")), []
    for path in sorted((DOCS / "results").glob(f"{name}-pocket-*-on-*.json")):
        own, _, to = path.stem.partition("-on-")
        there, here = Result.load(path), Result.load(path.with_stem(own))
        cells = [f"{_short(here, *g)} / {_short(there, *g)}" for g in groups]
        lines.append(
            f"| {there.metadata['benchmark']['name']} | {here.metadata['root_seed']} | {to} | {' | '.join(cells)} |"
        )
    if not lines:
        return []
    head = [
        "",
        "Carried over to another denoiser without training (`efface apply --to`), on its own model / there:",
        "",
    ]
    return [
        *head,
        "| benchmark | seed | to | RER name | RER domain | kept near | kept other |",
        "|---|---|---|---|---|---|---|",
        *lines,
    ]


def _short(result: Result, metric: str, group: str) -> str:
    score = result.score(metric, group)
    return "-" if score is None or score.value is None else f"{score.value:.2f}"


def varied(name: str) -> list[str]:
    """A method's ablation, where one was run."""
    path = DOCS / "results" / f"ablation-{name}.json"
    if not path.is_file():
        return []
    about, rows = read_study(path)
    if "--check" not in sys.argv:
        (DOCS / "methods" / f"{name}-ablation.svg").write_text(
            plot(rows, f"{name} on {about['benchmark']}, {about['part']} part")
        )
    few = f", {about['limit']} images a group" if about["limit"] else ""
    given = f" --benchmark {about['benchmark']}" + (f" --limit {about['limit']}" if about["limit"] else "")
    given += "".join(f" --set {key}={value}" for key, value in about.get("settings", {}).items())
    given += "".join(f" --attack {attack}" for attack in about.get("attacks", ()))
    said = f"Ablation (`efface ablate {name}{given}`): {about['benchmark']}, {about['part']} part{few}, {about['seeds']} seed"
    return [
        "",
        f"{said}{'s' if about['seeds'] > 1 else ''}.",
        "",
        table(rows).strip(),
        "",
        f"![ablation]({name}-ablation.svg)",
    ]


def placed(name: str) -> list[str]:
    """Where the prompts of the concept, its neighbours and the attacks lie in the text encoder's space (`efface topology`)."""
    lines: list[str] = []
    for path in sorted((DOCS / "results").glob(f"topology-{name}-*.json")):
        study = json.loads(path.read_text())
        part = f"{study['benchmark']}, {study['part']} part, at most {study['limit']} a group"
        lines += ["", f"Where prompts lie (`efface topology` of an erasure kept by `--keep`), {part}:", ""]
        lines += ["| encoder | prompts | purity | distance | n |", "|---|---|---|---|---|"]
        for place in study["places"]:
            cells = ["{:.2f} [{:.2f}, {:.2f}]".format(*place[key]) for key in ("purity", "distance")]
            lines.append(f"| {place['encoder']} | {place['group']} | {' | '.join(cells)} | {place['n']} |")
        if (DOCS / "methods" / f"{path.stem}.svg").is_file():
            lines += ["", f"![topology]({path.stem}.svg)"]
    return lines
