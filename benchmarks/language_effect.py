"""Measure methods on pocket-lm: ``python benchmarks/language_effect.py [METHOD ...] [--benchmark NAME ...]``.

Each method, with its preset for pocket-lm, erases the concept of each benchmark; the benchmark is evaluated and every
attack on language models is run. Results are stored in ``docs/results/<method>.json``, from which `docs/generate.py`
writes the tables. Stored results are not measured again: remove them first.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from efface.api.validation import add_default_retain_sets
from efface.benchmarks.language.attack import attack_language
from efface.benchmarks.language.benchmark import LanguageBenchmark
from efface.benchmarks.language.evaluation import Measured, language_scores, shown_texts
from efface.benchmarks.result_store import ResultKey, ResultStore
from efface.core.erasure import Erasure
from efface.core.registry import ATTACKS, METHODS
from efface.core.result import Result, Score
from efface.core.spec import RunSpec
from efface.execution import resolve_config
from efface.models.causal_lm import FAMILY, CausalLM
from efface.models.loading import load_model
from efface.ops.editing.apply import applied
from efface.ops.training.progress import Silent
from efface.ops.training.run import Run

RESULTS = Path(__file__).parents[1] / "docs" / "results"
MODEL = "pocket-lm"
BENCHMARKS = ("pocket-lm-weapon", "pocket-lm-santa", "pocket-lm-vice", "pocket-lm-animal")
SHOWN_GROUPS, SHOWN = ("name", "near", "general"), 2
"""Groups of which the results keep texts, and the number of each."""


def of_language(registry: Any) -> list[str]:
    """Returns the names of a registry's entries for language models."""
    return [name for name in registry.names() if registry.card(name).families == (FAMILY,)]


@dataclass
class Measurement:
    """One benchmark on one model, with the answers before measured once."""

    model: CausalLM
    benchmark: LanguageBenchmark
    limit: int
    before: Measured | None = None

    def erase(self, method: str, seed: int) -> tuple[Erasure, float]:
        """Erases the benchmark's concept; returns the erasure and its seconds."""
        function: Any = METHODS.get(method)
        config, preset = resolve_config(function, None, MODEL, {}, FAMILY)
        concepts = add_default_retain_sets((self.benchmark.concept,), MODEL, of_language=True)
        spec = RunSpec(MODEL, self.model.fingerprint(), method, asdict(config), concepts, seed, preset)
        start = time.perf_counter()
        erasure = function(self.model, concepts, config, Run(seed=seed, device=self.model.device, spec=spec))
        return erasure, time.perf_counter() - start

    def result(self, erasure: Erasure, seconds: float) -> Result:
        """Evaluates and attacks an erasure."""
        asked = self.benchmark.limited(self.limit)
        if self.before is None:
            self.before = Measured.of(self.model, asked, Silent(), "answers before")
        with applied(self.model, erasure):
            after = Measured.of(self.model, asked, Silent(), "answers after")
        scores = [*language_scores(asked, self.before, after), *self.attacks(erasure)]
        texts = [row for row in shown_texts(asked, self.before, after, SHOWN) if row["group"] in SHOWN_GROUPS]
        cost = {"seconds": round(seconds, 1), "threads": torch.get_num_threads()}
        about = {"model": MODEL, "erasure_hash": erasure.spec.hash, "benchmark": self.benchmark.describe()}
        return Result(tuple(scores), {**about, "limit": self.limit, "cost": cost, "texts": texts})

    def attacks(self, erasure: Erasure) -> list[Score]:
        """Runs every attack with its own settings."""
        scores: list[Score] = []
        for name in of_language(ATTACKS):
            function: Any = ATTACKS.get(name)
            config, _ = resolve_config(function, None, MODEL, {}, FAMILY)
            found = attack_language(self.model, erasure, self.benchmark, function, config, limit=self.limit)
            scores += found.scores(name)
        return scores


def main(
    methods: Annotated[list[str] | None, typer.Argument(help="Methods; all for language models by default.")] = None,
    benchmark: Annotated[list[str] | None, typer.Option(help="Benchmark; repeat for more.")] = None,
    limit: Annotated[int, typer.Option(help="Maximum number of questions of a group.")] = 36,
    seed: Annotated[int, typer.Option(help="Seed of the erasures.")] = 0,
) -> None:
    """Measures every missing result."""
    model: Any = load_model(MODEL)
    for name in benchmark or BENCHMARKS:
        measurement = Measurement(model, LanguageBenchmark.load(name), limit)
        for method in methods or of_language(METHODS):
            store, key = ResultStore(RESULTS / f"{method}.json"), ResultKey(name, seed, model=MODEL)
            if key not in store.results:
                result = measurement.result(*measurement.erase(method, seed))
                store.add(key, result)
                store.save()
                print(method, name, result.verdict.summary(), flush=True)


if __name__ == "__main__":
    typer.run(main)
