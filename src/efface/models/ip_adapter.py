"""IP-Adapter: images as prompts through cross-attention of their own (Ye et al. 2023, arXiv 2308.06721).

diffusers loads the weights and computes the attention; hooks hand it the tokens. A pass without images has the adapter
switched off, so that it equals the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from efface.core.errors import EffaceError
from efface.core.io import user_file_errors

from .editable import EditableModel
from .protocol import Conditioning, Prediction

IMAGE_ENCODER = "image_encoder"


class IpAdapter:
    """The installed adapter of a pipeline.

    Attributes:
        active_tokens: tokens of the current pass, ``(B, n, D)``; None without images.
    """

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self.active_tokens: Tensor | None = None
        self.embedding_width = int(pipe.image_encoder.config.projection_dim)

    @torch.no_grad()
    def tokens(self, images: Tensor) -> Tensor:
        """Returns the tokens of images ``(N, 3, H, W)`` in [0, 1]: ``(N, n, D)``."""
        pixels = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        inputs = self.pipe.feature_extractor([Image.fromarray(image) for image in pixels], return_tensors="pt")
        encoder = self.pipe.image_encoder
        embeds = encoder(inputs.pixel_values.to(encoder.device, encoder.dtype)).image_embeds
        (tokens,) = self.pipe.unet.encoder_hid_proj([embeds[:, None]])
        return torch.as_tensor(tokens)[:, 0]

    def predict(
        self, predict: Callable[..., Prediction], z: Tensor, t: Tensor, cond: Conditioning, tokens: Tensor
    ) -> Prediction:
        """Runs a denoiser with image tokens ``(B, n, D)`` beside the conditioning of B prompts."""
        self.active_tokens = tokens
        self.pipe.set_ip_adapter_scale(1.0)
        try:
            return predict(z, t, cond)
        finally:
            self.active_tokens = None
            self.pipe.set_ip_adapter_scale(0.0)

    def add_embeds(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Hook before the UNet: adds the argument that diffusers requires; `replace_tokens` replaces its projection."""
        embeds = torch.zeros(len(args[0]), 1, self.embedding_width, device=args[0].device, dtype=args[0].dtype)
        return args, {**kwargs, "added_cond_kwargs": {**kwargs.get("added_cond_kwargs", {}), "image_embeds": [embeds]}}

    def replace_tokens(self, _: nn.Module, __: tuple[Any, ...], output: list[Tensor]) -> list[Tensor]:
        """Hook behind the projection: returns the tokens of the current pass."""
        return output if self.active_tokens is None else [self.active_tokens[:, None]]


@contextmanager
def installed_ip_adapter(model: EditableModel, folder: Path) -> Iterator[IpAdapter]:
    """Installs the IP-Adapter in a folder, and restores the pipeline at the end.

    Args:
        model: Stable Diffusion 1, 2 or XL.
        folder: one ``.safetensors`` file with the adapter, and the folder ``image_encoder``.

    Raises:
        EffaceError: no such files, or weights for another architecture.
    """
    weights, pipe = _weight_file(folder), model.pipe
    unet = pipe.unet
    processors, projection, kind = dict(unet.attn_processors), unet.encoder_hid_proj, unet.config.encoder_hid_dim_type
    parts = {name: getattr(pipe, name) for name in (IMAGE_ENCODER, "feature_extractor")}
    hooks: list[Any] = []
    try:
        pipe.register_modules(image_encoder=None, feature_extractor=None)
        adapter = _load(pipe, folder, weights)
        hooks.append(unet.register_forward_pre_hook(adapter.add_embeds, with_kwargs=True))
        hooks.append(unet.encoder_hid_proj.register_forward_hook(adapter.replace_tokens))
        pipe.set_ip_adapter_scale(0.0)
        yield adapter
    finally:
        for hook in hooks:
            hook.remove()
        unet.set_attn_processor(processors)
        unet.encoder_hid_proj = projection
        unet.config.encoder_hid_dim_type = kind
        pipe.register_modules(**parts)


def _weight_file(folder: Path) -> Path:
    """Returns the adapter's file in a folder."""
    with user_file_errors(folder, "read"):
        files = sorted(folder.glob("*.safetensors"))
        has_encoder = (folder / IMAGE_ENCODER).is_dir()
    if len(files) != 1 or not has_encoder:
        raise EffaceError(
            f"{folder} is no IP-Adapter: put one file such as ip-adapter_sd15.safetensors and the folder image_encoder "
            "there"
        )
    return files[0]


def _load(pipe: Any, folder: Path, weights: Path) -> IpAdapter:
    """Loads the weights into the pipeline, without gradients."""
    try:
        pipe.load_ip_adapter(
            str(folder), subfolder="", weight_name=weights.name, image_encoder_folder=IMAGE_ENCODER,
            local_files_only=True, low_cpu_mem_usage=False,
        )  # fmt: skip
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise EffaceError(f"{weights} does not fit {pipe.unet.__class__.__name__}: {reason}") from error
    for module in pipe.unet.attn_processors.values():
        if isinstance(module, nn.Module):
            module.requires_grad_(False)
    pipe.unet.encoder_hid_proj.requires_grad_(False)
    pipe.image_encoder.requires_grad_(False)
    return IpAdapter(pipe)
