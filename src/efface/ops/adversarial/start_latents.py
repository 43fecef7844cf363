"""Attack prompts that start from latents, and the batches and prompts that attacks with latents share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from efface.core.attack_set import AttackPrompt, AttackTask, StartLatent
from efface.core.concept import Concept, fill_templates
from efface.core.errors import EffaceError
from efface.core.policy import check_prompts
from efface.core.subsample import evenly_spaced
from efface.models.editable import EditableModel
from efface.ops.tensor_conversion import to_blob
from efface.ops.text.templates import remove_concept, template_library, templates_for_kind

from .attack_context import AttackContext


def concept_prompts(concept: Concept, num_templates: int) -> list[str]:
    """Returns prompts of the template library that name the concept."""
    return list(fill_templates(_templates(concept, num_templates), [concept.name]))


def prompts_without_concept(concept: Concept, num_templates: int) -> list[str]:
    """Returns the prompts of the same templates without the concept."""
    return [remove_concept(template) for template in _templates(concept, num_templates)]


def _templates(concept: Concept, num_templates: int) -> Sequence[str]:
    return evenly_spaced(templates_for_kind(template_library(concept.kind), concept.kind), num_templates)


def start_rows(
    tasks: Sequence[AttackTask], prompts: str | Sequence[str] | None, latents: Tensor, step: int
) -> list[AttackPrompt]:
    """Returns a row for each task that starts from its latent.

    Args:
        tasks: B tasks.
        prompts: the prompt under attack, one for all tasks or one for each; None for the tasks' own.
        latents: ``(B, C, h, w)``.
        step: number of sampling steps that lie behind the latents.
    """
    if prompts is None:
        prompts = [task.prompt for task in tasks]
    elif isinstance(prompts, str):
        prompts = [prompts] * len(tasks)
    return [
        AttackPrompt(task.prompt, prompt, task.seed, start=StartLatent(to_blob(row), step))
        for task, prompt, row in zip(tasks, prompts, latents.float(), strict=True)
    ]


def batches_by_edit(
    model: EditableModel, tasks: Sequence[AttackTask], edits: Sequence[str], run: AttackContext, phase: str
) -> Iterator[tuple[str, Sequence[int]]]:
    """Gives the tasks edits in turn; yields an edit and the indices of a batch of its tasks.

    Raises:
        EffaceError: no edits.
        ContentPolicyError: an edit that the content policy refuses.
    """
    if not edits:
        raise EffaceError("the attack has no edits: give --set edits='a hat,sunglasses'")
    check_prompts(edits, "an edit")
    size = model.default_batch_size
    batches = [
        (edit, range(number, len(tasks), len(edits))[start : start + size])
        for number, edit in enumerate(edits)
        for start in range(0, len(range(number, len(tasks), len(edits))), size)
    ]
    yield from run.track(phase, batches)


def task_batches(
    model: EditableModel, tasks: Sequence[AttackTask], run: AttackContext, phase: str
) -> Iterator[Sequence[AttackTask]]:
    """Yields the tasks in batches of the model's size, and shows the progress."""
    for indices in index_batches(model, tasks, run, phase):
        yield [tasks[i] for i in indices]


def index_batches(
    model: EditableModel, tasks: Sequence[AttackTask], run: AttackContext, phase: str
) -> Iterator[Sequence[int]]:
    """Yields the indices of the tasks in batches of the model's size, and shows the progress."""
    size, every = model.default_batch_size, range(len(tasks))
    yield from run.track(phase, [every[start : start + size] for start in range(0, len(tasks), size)])
