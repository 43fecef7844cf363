"""Mutual self-attention of MasaCtrl (arXiv 2304.08465): images that attend to the content of other images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from efface.core.errors import EffaceError
from efface.models.editable import EditableModel


class SharedAttention:
    """Gives the second half of the images keys and values of the first half, image by image, from some step on.

    It is a latent edit, too, which tells it the step. The rows of a pass are chunks of all images, first halves first.

    Args:
        num_images: number of images, twice the number of pairs.
        first_step: the first step at which the halves share.
    """

    def __init__(self, num_images: int, first_step: int) -> None:
        self._num_images, self._first_step = num_images, first_step
        self._shares = False

    def change_latent(self, z: Tensor, index: int, num_inference_steps: int, t: float, seeds: Sequence[int]) -> Tensor:
        """Notes the step and leaves the latents as they are."""
        self._shares = index >= self._first_step
        return z

    def on_output(self, _module: nn.Module, _inputs: Any, output: Tensor) -> Tensor | None:
        """Replaces keys or values ``(N, pixels, D)`` of the second halves; a forward hook."""
        if not self._shares:
            return None
        chunks = output.clone().unflatten(0, (-1, 2, self._num_images // 2))
        chunks[:, 1] = chunks[:, 0]
        return chunks.flatten(0, 2)


def self_attention_layers(unet: nn.Module) -> list[nn.Module]:
    """Returns a UNet's self-attention layers in the order in which it runs them: down, middle, up."""
    blocks = [unet.get_submodule(name) for name in ("down_blocks", "mid_block", "up_blocks") if getattr(unet, name)]
    return [layer for block in blocks for name, layer in block.named_modules() if name.endswith("attn1")]


@contextmanager
def shared_attention(model: EditableModel, num_images: int, first_step: int, first_layer: int) -> Iterator[None]:
    """Lets the second half of the images attend to the first half for the body of a ``with``.

    Args:
        model: a model whose denoiser is a UNet.
        num_images: number of images of the trajectory.
        first_step: the first step.
        first_layer: number of self-attention layers that stay as they are, in the order in which they run.

    Raises:
        EffaceError: the UNet has no layer beyond the first ones.
    """
    layers = self_attention_layers(model.components["unet"])
    if not 0 <= first_layer < len(layers):
        raise EffaceError(
            f"first_layer must be 0 to {len(layers) - 1}, not {first_layer}: {model.name} has {len(layers)} "
            "self-attention layers"
        )
    sharing = SharedAttention(num_images, first_step)
    with ExitStack() as stack:
        model.latent_edits.append(sharing)
        stack.callback(model.latent_edits.remove, sharing)
        for layer in layers[first_layer:]:
            for name in ("to_k", "to_v"):
                stack.callback(layer.get_submodule(name).register_forward_hook(sharing.on_output).remove)
        yield
