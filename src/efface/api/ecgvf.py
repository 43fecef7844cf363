"""Write a benchmark of prompt pairs that images verified (ECGVF)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.core.chat_endpoint import check_model_named
from efface.core.concept_files import YAML_SUFFIXES
from efface.core.errors import EffaceError
from efface.core.output_files import check_file_path
from efface.models.loading import load_model
from efface.models.model_ref import ModelLike, model_name

if TYPE_CHECKING:
    from efface.benchmarks.benchmark import Benchmark
    from efface.benchmarks.ecgvf import VerifiedPairs
    from efface.ops.training.progress import Progress

COMMENT = """\
# Written by `efface benchmarks ecgvf`: every prompt of the groups name and near was checked on an image.
# Fields: src/efface/benchmarks/data/benchmark.schema.json; docs/benchmarks.md explains them.
"""


@dataclass(frozen=True)
class EcgvfBenchmark:
    """A written benchmark and how many pairs were dropped, by split."""

    benchmark: Benchmark
    pairs: dict[str, VerifiedPairs]

    def summary(self) -> str:
        """Returns a line for each split."""
        return "\n".join(
            f"{split}: {len(found.kept)} pairs kept; {found.missing_target} targets do not show the concept, "
            f"{found.showing_replacement} replacements show it"
            for split, found in self.pairs.items()
        )


def write_ecgvf_benchmark(
    concept: str, *, out: str | Path, model: ModelLike = "pocket", benchmark: str | Path | None = None,
    count: int = 50, endpoint: str | None = None, language_model: str = "", overwrite: bool = False,
    progress: Progress | None = None,
) -> EcgvfBenchmark:  # fmt: skip
    """Makes pairs of prompts, verifies them on the model's images and writes them as a benchmark's YAML file.

    Args:
        concept: The concept's name.
        out: YAML file to write.
        model: Anything `efface.load_model` accepts.
        benchmark: Benchmark that names detector, classes, sampler and templates; by default the shipped one.
        count: Maximum number of pairs of a split.
        endpoint: URL of a chat endpoint that writes the pairs, instead of the benchmark's templates.
        language_model: Name of the model at the endpoint.
        overwrite: Replace a file.
        progress: Progress display; none by default.

    Raises:
        EffaceError: No benchmark, a file that exists, or an endpoint that does not answer.
    """
    path = Path(out)
    _check(path, count, overwrite)
    source = _source(concept, model, benchmark)
    from efface.benchmarks.benchmark_fields import benchmark_fields
    from efface.benchmarks.benchmark_file import benchmark_yaml
    from efface.benchmarks.benchmark_validation import validate_benchmark
    from efface.benchmarks.ecgvf import VERIFIED_SEED, ecgvf_benchmark, verify_pairs
    from efface.core.io import atomic_write_text

    candidates = _candidates(source, count, endpoint, language_model)
    loaded = load_model(model)
    found = {
        split: verify_pairs(loaded, source, pairs, VERIFIED_SEED + 1000 * i, progress)
        for i, (split, pairs) in enumerate(candidates.items())
    }
    written = ecgvf_benchmark(source, {split: pairs.kept for split, pairs in found.items()})
    validate_benchmark(written)
    atomic_write_text(path, COMMENT + benchmark_yaml(benchmark_fields(written)))
    return EcgvfBenchmark(written, found)


def _check(path: Path, count: int, overwrite: bool) -> None:
    """Checks the file to write and the number of pairs."""
    check_file_path(path, *YAML_SUFFIXES)
    if path.exists() and not overwrite:
        raise EffaceError(f"{path} exists already: choose another file, or overwrite it (--overwrite)")
    if count < 1:
        raise EffaceError(f"--count {count} asks for no pairs: give 1 or more")


def _source(concept: str, model: ModelLike, ref: str | Path | None) -> Benchmark:
    """Returns the benchmark that a user names, or the shipped one of the model and concept."""
    from efface.benchmarks.benchmark import Benchmark, find_benchmark
    from efface.benchmarks.token_sampler import for_model

    if ref is not None:
        named = for_model(Benchmark.load(ref), model_name(model))
        if named.concept.name != concept:
            raise EffaceError(f"{named.name} is for {named.concept.name!r}, not for {concept!r}")
        return named
    name = model_name(model)
    found = find_benchmark(name, concept)
    if found is None:
        raise EffaceError(
            f"no benchmark for {concept!r} on {name}: name a YAML file with --benchmark "
            "(efface benchmarks new writes one)"
        )
    return found


def _candidates(source: Benchmark, count: int, endpoint: str | None, language_model: str) -> dict[str, Any]:
    """Returns the pairs to verify, by split; every second pair of an endpoint is of the split dev."""
    from efface.benchmarks.ecgvf import template_pairs

    if endpoint is None:
        return {split: template_pairs(source, split, count) for split in source.splits}
    from efface.benchmarks.pair_endpoint import endpoint_pairs

    check_model_named(language_model)
    pairs = endpoint_pairs(endpoint, language_model, source.concept, source.head, 2 * count)
    names = list(source.splits)
    return {split: pairs[i :: len(names)] for i, split in enumerate(names)}
