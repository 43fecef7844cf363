"""Attack prompts that start from latents, and images of the concept by the unedited model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from efface.core.attack_set import AttackPrompt, AttackTask, StartLatent
from efface.core.concept import Concept, fill_templates
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


def start_rows(tasks: Sequence[AttackTask], prompt: str | None, latents: Tensor, step: int) -> list[AttackPrompt]:
    """Returns a row for each task that starts from its latent.

    Args:
        tasks: B tasks.
        prompt: the prompt under attack; None for the task's own.
        latents: ``(B, C, h, w)``.
        step: number of sampling steps that lie behind the latents.
    """
    return [
        AttackPrompt(
            task.prompt, task.prompt if prompt is None else prompt, task.seed, start=StartLatent(to_blob(row), step)
        )
        for task, row in zip(tasks, latents.float(), strict=True)
    ]


def task_batches(
    model: EditableModel, tasks: Sequence[AttackTask], run: AttackContext, phase: str
) -> Iterator[Sequence[AttackTask]]:
    """Yields the tasks in batches of the model's size, and shows the progress."""
    size = model.default_batch_size
    yield from run.track(phase, [tasks[start : start + size] for start in range(0, len(tasks), size)])
