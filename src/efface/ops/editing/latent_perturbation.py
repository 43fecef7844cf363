"""IRECE: fresh noise where the unedited model attends to a concept (re-derived from arXiv 2512.22877's abstract)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any
from weakref import ref

import torch
from torch import Tensor

from efface.core.errors import EffaceError, check_known_keys
from efface.core.seeds import derive_seed
from efface.models.attention_maps import attention_maps
from efface.models.editable import EditableModel
from efface.models.parameter_groups import qualified_name
from efface.ops.latent_masks import concept_attention, resize_mask, threshold_attention

from .unedited import unedited_params, without_insertions


@dataclass(frozen=True)
class PerturbationSettings:
    """Settings of the perturbation; all are ours, because the abstract gives none.

    Attributes:
        phrases: the concept's phrases; the masks of all are joined.
        first: share of the sampling steps before the first perturbed one.
        last: share of the steps at which the perturbation ends.
        threshold: smallest attention within the mask, between the image's least, 0, and its largest, 1.
        presence: smallest ratio of the largest to the mean attention at which an image is perturbed; 0 for all images.
        strength: rho, the share of fresh noise within the mask.
    """

    phrases: tuple[str, ...] = ()
    first: float = 0.0
    last: float = 0.5
    threshold: float = 0.5
    presence: float = 0.0
    strength: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "phrases", tuple(self.phrases))
        if not self.phrases or not 0 <= self.strength <= 1:
            raise EffaceError("a perturbation of latents needs the concept's phrases, and a strength from 0 to 1")


def perturb(z: Tensor, mask: Tensor, noise: Tensor, strength: float, sigma: float) -> Tensor:
    """Returns (1 - M) z + M ( sqrt(1 - rho) z + sqrt(rho) sigma n ).

    Args:
        z: latents, ``(B, C, H, W)``.
        mask: M, ``(B, 1, H, W)``.
        noise: n, like z.
        strength: rho.
        sigma: noise level of the latents.
    """
    changed = (1 - strength) ** 0.5 * z + strength**0.5 * sigma * noise
    return (1 - mask) * z + mask * changed


class LatentPerturbation:
    """The perturbation on a model, as a `efface.models.guidance_hooks.LatentEdit`; it does not keep the model alive.

    The concept's region is where the unedited model attends to its words, whatever the prompt is: the weights are read
    as they were before any erasure, and inserted modules are off. Edits of op ``state`` stay on.

    Args:
        model: a model whose denoiser is a UNet.
        settings: the settings.
    """

    def __init__(self, model: EditableModel, settings: PerturbationSettings) -> None:
        self._model = ref(model)
        self.settings = settings

    @torch.no_grad()
    def change_latent(self, z: Tensor, index: int, num_inference_steps: int, t: float, seeds: Sequence[int]) -> Tensor:
        """Returns the latents of a step with fresh noise in the concept's region."""
        own = self.settings
        if not own.first <= index / num_inference_steps < own.last:
            return z
        model: Any = self._model()
        mask = torch.stack([self._mask(model, z, t, phrase) for phrase in own.phrases]).amax(0)
        rows = [
            torch.randn(z.shape[1:], generator=torch.Generator().manual_seed(derive_seed(seed, "perturb", index)))
            for seed in seeds
        ]
        sigma = float((1 - model.scheduler.alphas_cumprod[int(t)]) ** 0.5)
        return perturb(z, mask, torch.stack(rows).to(z), own.strength, sigma)

    def _mask(self, model: Any, z: Tensor, t: float, phrase: str) -> Tensor:
        """Returns the region of a phrase in latents ``(B, C, H, W)``, ``(B, 1, H, W)``."""
        encoders = {name: part for name, part in model.components.items() if name.startswith("text_encoder")}
        params = {
            qualified_name(name, path): value
            for name, part in encoders.items()
            for path, value in unedited_params(part).items()
        }
        tokens = model.tokenize([phrase] * len(z))
        positions = torch.arange(tokens.ids.shape[1], device=z.device)[None]
        words = (positions >= tokens.start) & (positions < tokens.eos[:, None])
        unet = model.components["unet"]
        with without_insertions(unet), attention_maps(model) as maps:
            model.predict(z, t, model.encode(tokens, params=params), params=unedited_params(unet))
        height, width = z.shape[-2:]
        attention = concept_attention(maps, words, height * width)
        mask = threshold_attention(attention, self.settings.threshold)
        is_present = attention.amax(1) >= self.settings.presence * attention.mean(1)
        mask = mask * is_present[:, None]
        return resize_mask(mask, height * width, width / height).view(len(z), 1, height, width).to(z)


def latent_perturbation(model: EditableModel, params: Mapping[str, Any]) -> LatentPerturbation:
    """Builds the perturbation from the params of a guidance edit with the rule ``irece``.

    Raises:
        UnknownNameError: an unknown setting; the message suggests the nearest.
        EffaceError: no phrases, a strength out of range, or a model without a UNet.
    """
    settings = {key: value for key, value in params.items() if key != "rule"}
    check_known_keys("irece setting", settings, (item.name for item in fields(PerturbationSettings)))
    if "unet" not in model.components:
        raise EffaceError(f"irece needs a UNet's cross-attention; {model.name} has {', '.join(model.components)}")
    return LatentPerturbation(model, PerturbationSettings(**settings))
