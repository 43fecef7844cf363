"""Write a benchmark for a concept that has none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from efface.core.concept import Concept
from efface.core.concept_files import YAML_SUFFIXES
from efface.core.errors import EffaceError
from efface.core.output_files import check_file_path
from efface.models.loading import load_model
from efface.models.model_ref import ModelLike, base_bundled_model, model_name

if TYPE_CHECKING:
    from efface.benchmarks.benchmark import Benchmark
    from efface.models.editable import EditableModel
    from efface.ops.training.progress import Progress

COMMENT = """\
# Drafted by `efface benchmarks new`. Read the groups near and other: they must show nothing of the concept.
# Fields: src/efface/benchmarks/data/benchmark.schema.json; docs/benchmarks.md explains them.
"""


def new_benchmark(
    concept: str | Concept, *, out: str | Path, model: ModelLike = "pocket", domain: Sequence[str] = (),
    prompts: Sequence[str] = (), clip: str | None = None, detector: str = "", overwrite: bool = False,
    progress: Progress | None = None,
) -> Benchmark:  # fmt: skip
    """Draft a benchmark for a concept and write its YAML file.

    Args:
        concept: The concept, with its retain prompts if it has some.
        out: YAML file to write.
        model: Anything `efface.load_model` accepts.
        domain: Other phrases for the concept. By default the words of pocket's world, else those that `clip` sees in
            the model's images.
        prompts: Whole prompts that show the concept; those without its words are the group domain.
        clip: CLIP model that judges images of models other than pocket: a folder or a hub id.
        detector: ``nudenet:COUNTING`` to count exposed parts, with `prompts`; else chosen by the model.
        overwrite: Replace a file.
        progress: Progress display; none by default.

    Returns:
        The benchmark as written.

    Raises:
        EffaceError: No phrases for the group domain, a file that exists, or an unknown model.
    """
    target, path = Concept.coerce(concept), Path(out)
    _check_file(path, overwrite)
    _check_domain_source(target, model, bool(domain or prompts or clip))
    draft = _draft(load_model(model), target, domain, prompts, clip, detector, progress)
    _write(draft, path)
    return draft


def _draft(
    model: EditableModel, concept: Concept, domain: Sequence[str], prompts: Sequence[str], clip: str | None,
    detector: str, progress: Progress | None,
) -> Benchmark:  # fmt: skip
    """Drafts with the phrases given, else with those that the CLIP model sees in the model's images."""
    from efface.benchmarks.domain_phrases import mine_domain_phrases
    from efface.benchmarks.new_benchmark import draft_benchmark
    from efface.benchmarks.photo_draft import DEFAULT_CLIP

    judge = clip or DEFAULT_CLIP
    draft = draft_benchmark(model, concept, domain=domain, prompts=prompts, clip=judge, detector=detector)
    if draft.attack_phrases:
        return draft
    mined = mine_domain_phrases(model, draft.concept, draft.concept.retain_prompts, draft.clip, progress)
    return draft_benchmark(model, concept, domain=mined, clip=judge, detector=detector)


def _write(benchmark: Benchmark, path: Path) -> None:
    """Writes the YAML file atomically."""
    from efface.benchmarks.benchmark_fields import benchmark_fields
    from efface.benchmarks.benchmark_file import benchmark_yaml
    from efface.core.io import atomic_write_text

    atomic_write_text(path, COMMENT + benchmark_yaml(benchmark_fields(benchmark)))


def _check_domain_source(concept: Concept, model: ModelLike, is_given: bool) -> None:
    """Checks that phrases of the group domain are given or, as on pocket, can be found."""
    if not is_given and base_bundled_model(model_name(model)) != "pocket":
        raise EffaceError(
            f"the group domain of {concept.name!r} has no phrases: name some with --domain, or a CLIP model with "
            "--clip, which reads them from the model's images"
        )


def _check_file(path: Path, overwrite: bool) -> None:
    """Checks that a YAML file can be written.

    Raises:
        EffaceError: Another suffix, a file that exists, or a folder that cannot be written.
    """
    check_file_path(path, *YAML_SUFFIXES)
    if path.exists() and not overwrite:
        raise EffaceError(f"{path} exists already: choose another file, or overwrite it (--overwrite)")
