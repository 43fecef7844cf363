"""Measure methods on pocket-classifier: ``python benchmarks/classifiers.py --retrained FOLDER [--benchmark NAME ...]``.

``FOLDER`` holds one erasure by the method retrain for every benchmark, named like it. Each variant erases the concept
with its preset for pocket-classifier; relearning is run and the test images are evaluated. Results are stored in
``docs/results/<method>.json``, from which `docs/generate.py` writes the tables. Stored results are not measured again:
remove them first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from efface import api
from efface.benchmarks.classifier.benchmark import ClassifierBenchmark, classifier_benchmark_names
from efface.benchmarks.result_store import ResultKey, ResultStore
from efface.core.result import Result
from efface.models.loading import load_model
from efface.ops.training.progress import terminal_progress

RESULTS = Path(__file__).parents[1] / "docs" / "results"
MODEL = "pocket-classifier"
VARIANTS: dict[tuple[str, str], dict[str, Any]] = {
    ("famr", ""): {},
    ("famr", "l2"): {"anchor": "l2", "target": "uniform", "rho": 1e-3},
    ("famr", "all"): {"anchor": "l2", "solver": "lbfgs", "target_modules": "all", "rho": 1.0, "steps": 25},
    ("salun", ""): {},
    ("fine_tuning", ""): {},
}
"""By method and variant, the settings that differ from the method's preset."""
Benchmarks = Annotated[list[str] | None, typer.Option("--benchmark", help="Benchmark; repeat for more. Default: all.")]
Retrained = Annotated[Path, typer.Option(help="Folder of the erasures by retrain, each named like its benchmark.")]


def main(retrained: Retrained, benchmark: Benchmarks = None) -> None:
    """Measures every variant on every benchmark, the retrained classifier among them."""
    torch.set_num_threads(1)
    model: Any = load_model(MODEL)
    for name in benchmark or classifier_benchmark_names():
        chosen = ClassifierBenchmark.load(name)
        if (retrained / name).is_dir():
            store("retrain", ResultKey(name, 0, model=MODEL), partial(measure, retrained / name, model))
        for (method, variant), config in VARIANTS.items():
            key = ResultKey(name, 0, variant, model=MODEL)
            store(method, key, partial(erase_and_measure, chosen, method, config, model))


def store(method: str, key: ResultKey, run: Callable[[], Result]) -> None:
    """Measures a method and stores the result unless it is stored already."""
    stored = ResultStore(RESULTS / f"{method}.json")
    if key not in stored.results:
        stored.add(key, run())
        stored.save()
        print(method, key, stored.results[key].summary(), flush=True)


def erase_and_measure(benchmark: ClassifierBenchmark, method: str, config: dict[str, Any], model: Any) -> Result:
    """Erases the benchmark's concept and measures the erasure."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "erasure"
        options = {"method": method, "config": config, "progress": terminal_progress()}
        api.erase(benchmark.concept, out=out, model=model, **options)
        return measure(out, model)


def measure(artifact: Path, model: Any) -> Result:
    """Attacks and evaluates an erasure; the result holds the scores of both."""
    attacked = api.attack(artifact, "relearning_images", model=model).folder
    result = api.evaluate(artifact, model=model)
    scores = Result.load(Path(str(attacked)) / "result.json").scores
    known = {(score.metric, score.group) for score in result.scores}
    extra = [score for score in scores if (score.metric, score.group) not in known]
    return Result((*result.scores, *extra), result.metadata)


if __name__ == "__main__":
    typer.run(main)
