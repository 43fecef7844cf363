"""Windows of image tokens."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_janus import SIDE, tiny_janus

from efface.core.errors import EffaceError
from efface.models.image_token_context import ImageTokenContext
from efface.ops.image_tokens.windows import Window, image_states, token_windows, window_states


def test_the_last_window_is_shorter_and_knows_its_share() -> None:
    assert token_windows(10, 4) == [Window(0, 4, 1.0), Window(4, 8, 1.0), Window(8, 10, 0.5)]
    assert token_windows(8, 4)[-1].share == 1.0
    assert token_windows(6, 12) == [Window(0, 6, 0.5)]


def test_a_window_without_tokens_is_refused() -> None:
    with pytest.raises(EffaceError, match="set window to 1 or more"):
        token_windows(10, 0)


@pytest.mark.parametrize("length", [1, 5, 16])
def test_windows_give_the_states_of_the_whole_image(length: int) -> None:
    model, tokens = tiny_janus(), torch.arange(SIDE * SIDE).repeat(2, 1)
    rows = model.image_prompts(["a gun", "a cat in the snow"])
    context = ImageTokenContext(model, rows)
    with torch.no_grad():
        parts = [window_states(context, tokens, window) for window in token_windows(SIDE * SIDE, length)]
    assert torch.allclose(torch.cat(parts, dim=1), image_states(ImageTokenContext(model, rows), tokens), atol=1e-5)


def test_the_gradient_ends_at_the_start_of_a_window() -> None:
    model, tokens = tiny_janus(), torch.arange(SIDE * SIDE)[None]
    context = ImageTokenContext(model, model.image_prompts(["a gun"]))
    params = {
        name: parameter.clone().requires_grad_(True) for name, parameter in model.language_model.named_parameters()
    }
    first, second = token_windows(SIDE * SIDE, 8)
    window_states(context, tokens, first, params).sum().backward()
    window_states(context, tokens, second, params).sum().backward()  # fails if it reaches into the freed first graph
    assert params["layers.0.self_attn.k_proj.weight"].grad is not None
