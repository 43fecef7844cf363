"""Images that several prompts share."""

from __future__ import annotations

import pytest
import torch

from efface.core.errors import EffaceError
from efface.ops.training.shared_images import SharedImages


def test_each_prompt_has_its_own_images_if_there_are_enough() -> None:
    images = SharedImages.assign([["a", "b"], ["a"]], 3)
    assert images.image_prompts == ("a", "b", "a")
    index = torch.tensor([2, 0, 1])
    assert torch.equal(images.training_prompts(index, 7), index)


def test_prompts_with_the_same_image_prompt_take_turns() -> None:
    images = SharedImages.assign([["a", "b"], ["a", "b"]], 2)
    assert images == SharedImages(("a", "b"), ((0, 2), (1, 3)))
    turns = [images.training_prompts(torch.tensor([0, 1, 0]), step).tolist() for step in range(2)]
    assert turns == [[0, 3, 0], [2, 1, 2]]


def test_every_group_has_an_image_or_it_is_an_error() -> None:
    groups = [[f"{group}{i}" for i in range(9)] for group in "abc"]
    images = SharedImages.assign(groups, 4)
    assert {prompt[0] for prompt in images.image_prompts} == {"a", "b", "c"}
    with pytest.raises(EffaceError, match="2 images are too few for 3 concepts"):
        SharedImages.assign(groups, 2)
