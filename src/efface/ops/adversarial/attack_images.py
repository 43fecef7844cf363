"""Images of the concept that an attack learns or starts from: by the unedited model, or a user's from a folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from efface.core.attack_set import AttackTask
from efface.core.concept import Concept
from efface.models.editable import EditableModel
from efface.ops.training.image_folder import encode_folder
from efface.ops.training.latents import Latents, generate_latents, generate_per_prompt

from .attack_context import AttackContext


class ImageSettings(Protocol):
    """Settings of an attack that needs images of the concept."""

    @property
    def num_inference_steps(self) -> int:
        """Number of sampling steps of a generated image."""
        ...

    @property
    def guidance_scale(self) -> float:
        """Guidance scale of generated images."""
        ...

    @property
    def image_folder(self) -> str:
        """Folder of the user's images; empty: generate them."""
        ...


class TaskImages:
    """An image of the concept for each task.

    The unedited model generates it from another seed than the task's. A user's images go to the tasks in turn.

    Args:
        model: the model.
        concept: the concept.
        settings: the attack's settings.
        run: the attack's run.

    Raises:
        EffaceError: a folder or an image that cannot be read, or an image of another size than the model's.
    """

    def __init__(self, model: EditableModel, concept: Concept, settings: ImageSettings, run: AttackContext) -> None:
        self._model, self._settings, self._run = model, settings, run
        folder = settings.image_folder
        self._given = encode_folder(model, [concept], folder).x0 if folder else None

    def of(self, tasks: Sequence[AttackTask], indices: Sequence[int]) -> Tensor:
        """Returns clean latents ``(B, C, h, w)`` for B tasks with these indices among all tasks."""
        if self._given is not None:
            return self._given[[i % len(self._given) for i in indices]]
        with self._run.erasure_disabled():
            return generate_per_prompt(
                self._model,
                [task.prompt for task in tasks],
                [self._run.seed_for("image", task.prompt, task.seed) for task in tasks],
                num_inference_steps=self._settings.num_inference_steps,
                guidance_scale=self._settings.guidance_scale,
            ).x0


def training_images(
    model: EditableModel,
    concept: Concept,
    prompts: Sequence[str],
    num_images: int,
    settings: ImageSettings,
    run: AttackContext,
    label: str,
) -> Latents:
    """Returns latents to train on; the unedited model generates image i for prompt i, cycling through the prompts.

    Args:
        model: the model.
        concept: the concept.
        prompts: prompts that name the concept. Each of a user's images has all of them.
        num_images: number of images; of a user's, the first by name.
        settings: the attack's settings.
        run: the attack's run.
        label: label of the images' seeds.

    Raises:
        EffaceError: a folder or an image that cannot be read, or an image of another size than the model's.
    """
    if settings.image_folder:
        given = encode_folder(model, [concept], settings.image_folder).x0[:num_images]
        index = torch.arange(len(prompts)).repeat_interleave(len(given))
        return Latents(model, given.repeat(len(prompts), 1, 1, 1), index)
    with run.erasure_disabled():
        return generate_latents(
            model,
            prompts,
            num_images=num_images,
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            seed=run.seed_for(label),
            progress=run.progress,
        )
