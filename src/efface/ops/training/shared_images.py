"""Images that several prompts share, where there are more prompts than images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from efface.core.errors import EffaceError
from efface.core.subsample import spread


@dataclass(frozen=True)
class SharedImages:
    """Which training prompts an image serves.

    Attributes:
        image_prompts: prompts to generate images for, one image after another.
        members: for each of them, the indices of its training prompts.
    """

    image_prompts: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]

    @classmethod
    def assign(cls, groups: Sequence[Sequence[str]], num_images: int) -> SharedImages:
        """Assigns every training prompt images of its image prompt.

        With enough images each training prompt has its own. Otherwise those with the same image prompt share its
        images. If there are still too few, each group has as many image prompts as the others.

        Args:
            groups: image prompt of every training prompt, by concept.
            num_images: number of images.

        Raises:
            EffaceError: fewer images than groups with image prompts of their own.
        """
        all_prompts = tuple(chain.from_iterable(groups))
        if len(all_prompts) <= num_images:
            return cls(all_prompts, tuple((i,) for i in range(len(all_prompts))))
        image_prompts = tuple(spread(groups, num_images))
        if any(not set(group) & set(image_prompts) for group in groups):
            raise EffaceError(
                f"{num_images} images are too few for {len(groups)} concepts: set num_images to at least {len(groups)}"
            )
        indices: dict[str, list[int]] = {text: [] for text in image_prompts}
        for i, text in enumerate(all_prompts):
            if text in indices:
                indices[text].append(i)
        return cls(image_prompts, tuple(map(tuple, indices.values())))

    def training_prompts(self, prompt_index: Tensor, step: int) -> Tensor:
        """Returns the index of a training prompt for each image; those that share an image take turns.

        Args:
            prompt_index: index of each image's prompt, ``(B,)``.
            step: number of the training step.
        """
        first = step * len(prompt_index)
        members = [self.members[i] for i in prompt_index.tolist()]
        chosen = [indices[(first + row) % len(indices)] for row, indices in enumerate(members)]
        return torch.tensor(chosen, device=prompt_index.device)
