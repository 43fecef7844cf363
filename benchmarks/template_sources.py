"""Compare sources of training templates: ``python benchmarks/template_sources.py elide --benchmark pocket-instrument``.

A method erases the benchmark's concept three times, with as many templates each time, and everything else alike:

- ``library``: templates of the shipped library, the default;
- ``retain``: the retain prompts with their object replaced by ``{}``;
- ``random``: the concept between words drawn from the model's vocabulary.

Results are stored in ``docs/template_sources/<method>.json`` as the variants ``library`` and so on, beside the results
of the leaderboard, and `docs/generate.py` writes the table on the method's page. Stored results are not measured again.
"""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from efface import api
from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.result_store import ResultKey, ResultStore
from efface.cli.parsing import parse_settings
from efface.core.concept import PLACEHOLDER
from efface.core.subsample import evenly_spaced
from efface.models.loading import load_model
from efface.ops.text.templates import library_templates
from efface.ops.training.progress import RichProgress

RESULTS = Path(__file__).parents[1] / "docs" / "template_sources"
_OBJECT_OF_PROMPT = re.compile(r"(?<= of )(?:.+? )??\w+(?= (?:in|on|at) |$)")
WORDS_AROUND = 3


def mined_templates(retain_prompts: Sequence[str]) -> tuple[str, ...]:
    """Returns retain prompts with the words between "of" and the place replaced by the concept's placeholder."""
    mined = [_OBJECT_OF_PROMPT.sub(f"a {PLACEHOLDER}", prompt, count=1) for prompt in retain_prompts]
    return tuple(dict.fromkeys(template for template in mined if PLACEHOLDER in template))


def random_templates(words: Sequence[str], count: int, seed: int = 0) -> tuple[str, ...]:
    """Returns ``count`` templates with the placeholder between three random words on each side."""
    generator = random.Random(seed)

    def template() -> str:
        drawn = generator.sample(list(words), 2 * WORDS_AROUND)
        return " ".join([*drawn[:WORDS_AROUND], PLACEHOLDER, *drawn[WORDS_AROUND:]])

    return tuple(template() for _ in range(count))


def main(
    method: Annotated[str, typer.Argument(help="Method that trains on templates, such as elide or sage.")],
    benchmark: Annotated[str, typer.Option(help="Benchmark of a dev concept.")] = "pocket-instrument",
    limit: Annotated[int | None, typer.Option(help="Maximum number of images of each group; all by default.")] = 24,
    source: Annotated[list[str] | None, typer.Option(help="Sources to measure; all by default.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Set a field of the method's configuration: name=value.")
    ] = None,
) -> None:
    """Compare sources of training templates."""
    loaded, model = Benchmark.load(benchmark), load_model("pocket")
    concept, config = loaded.concept, parse_settings(settings or [])
    mined = mined_templates(concept.retain_prompts)
    sources = {
        "library": tuple(evenly_spaced(library_templates(concept), len(mined))),
        "retain": mined,
        "random": random_templates(model.vocabulary_words(whole_only=True), len(mined)),
    }
    for name in source or list(sources):
        store, key = ResultStore(RESULTS / f"{method}.json"), ResultKey(loaded.name, 0, name)
        if key in store.results:
            continue
        chosen = replace(concept, template_library=sources[name])
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / name
            progress = RichProgress()
            api.erase(
                chosen, out=out, model=model, method=method, config={"num_templates": 0, **config},
                quick_evaluation=False, progress=progress,
            )  # fmt: skip
            result = api.evaluate(out, loaded.name, model=model, limit=limit, progress=progress)
        metadata = {"method": method, "templates": list(sources[name]), "overrides": config}
        store.add(key, replace(result, metadata={**result.metadata, **metadata}))
        RESULTS.mkdir(exist_ok=True)
        store.save()
        print(f"{method} {key}: {result.summary()}", flush=True)


if __name__ == "__main__":
    typer.run(main)
