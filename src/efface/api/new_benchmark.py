"""Write a benchmark for a concept that has none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from efface.core.concept import Concept
from efface.core.errors import EffaceError
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
        domain: Other phrases for the concept, which no method receives. Without any, they are the words of pocket's
            world, or the words that `clip` sees in the model's images of the concept.
        prompts: Whole prompts that show the concept, in place of its name in templates; those without its words are
            the group domain.
        clip: CLIP model that judges images of models other than pocket: a folder or a hub id.
        detector: ``nudenet:COUNTING`` to count exposed parts, with `prompts`; by default zero-shot CLIP or pocket's
            judge.
        overwrite: Replace a file.
        progress: Progress display; none by default.

    Returns:
        The benchmark as written.

    Raises:
        EffaceError: No phrases for the group domain, a file that exists, or an unknown model.
    """
    target, path = Concept.coerce(concept), Path(out)
    _check_file(path, overwrite)
    is_pocket = base_bundled_model(model_name(model)) == "pocket"
    if not (is_pocket or domain or prompts or clip):
        raise EffaceError(
            f"the group domain of {target.name!r} has no phrases: name some with --domain, or a CLIP model with "
            "--clip, which reads them from the model's images"
        )
    loaded = load_model(model)
    from efface.benchmarks.benchmark_fields import benchmark_fields
    from efface.benchmarks.benchmark_file import benchmark_yaml
    from efface.benchmarks.new_benchmark import draft_benchmark
    from efface.benchmarks.photo_draft import DEFAULT_CLIP
    from efface.core.io import atomic_write_text

    judge = clip or DEFAULT_CLIP
    draft = draft_benchmark(loaded, target, domain=domain, prompts=prompts, clip=judge, detector=detector)
    if not draft.attack_phrases:
        mined = _mine(loaded, draft, progress)
        draft = draft_benchmark(loaded, target, domain=mined, clip=judge, detector=detector)
    atomic_write_text(path, COMMENT + benchmark_yaml(benchmark_fields(draft)))
    return draft


def _mine(model: EditableModel, draft: Benchmark, progress: Progress | None) -> tuple[str, ...]:
    """Reads the domain phrases from images, by the draft's CLIP model."""
    from efface.benchmarks.domain_phrases import mine_domain_phrases

    return mine_domain_phrases(model, draft.concept, draft.concept.retain_prompts, draft.clip, progress)


def _check_file(path: Path, overwrite: bool) -> None:
    """Checks that a YAML file can be written.

    Raises:
        EffaceError: Another suffix, a file that exists, or no such folder.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise EffaceError(f"{path} does not end in .yaml: name a YAML file, such as --out {path.stem or 'mine'}.yaml")
    if path.exists() and not overwrite:
        raise EffaceError(f"{path} exists already: choose another file, or overwrite it (--overwrite)")
    if not path.absolute().parent.is_dir():
        raise EffaceError(f"the folder {path.absolute().parent} does not exist: create it first")
