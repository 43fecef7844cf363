"""Latents and captions of every scene, made once by worker processes; training samples from them on its device."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerFast

from common import WORLD, render, step_rng, to_tensor
from contrastive import CONTEXT as CLIP_CONTEXT
from denoiser import training_scenes
from efface.pocket_world import Scene, caption
from pocket_flow.model import CONTEXT, pack

SEED = 21
SCENES_PER_TASK = 128
worker_state: dict[str, Any] = {}


def set_up_worker(scenes: list[Scene], clip: CLIPTokenizer, t5: PreTrainedTokenizerFast) -> None:
    """Stores in a worker what all its tasks need."""
    worker_state.update(scenes=scenes, clip=clip, t5=t5)


def token_ids(tokenizer: Any, texts: list[str], length: int) -> NDArray[np.int16]:
    """Returns token ids ``(N, length)``, padded as FluxPipeline pads."""
    tokens = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="np")
    return np.asarray(tokens.input_ids, dtype=np.int16)


def render_task(task: tuple[int, int]) -> NDArray[np.uint8]:
    """Renders one copy of the scenes from ``start`` on."""
    start, copy = task
    scenes = worker_state["scenes"][start : start + SCENES_PER_TASK]
    return render(scenes, step_rng(SEED, start + copy * 10**6 + 1))


def caption_task(task: tuple[int, int]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Samples ``num_captions`` captions of each scene from ``start`` on; returns their T5 and CLIP token ids."""
    start, num_captions = task
    rng = step_rng(SEED, start + num_captions * 10**6)
    scenes = worker_state["scenes"][start : start + SCENES_PER_TASK]
    texts = [caption(WORLD, scene, rng) for scene in scenes for _ in range(num_captions)]
    return token_ids(worker_state["t5"], texts, CONTEXT), token_ids(worker_state["clip"], texts, CLIP_CONTEXT)


@dataclass
class Dataset:
    """Latents and captions on the training device.

    Attributes:
        mean: means of the packed latents, copy by copy: ``(copies * scenes, 64, 16)``.
        std: their standard deviations.
        ids: T5 token ids, scene by scene: ``(scenes * captions, 32)``.
        pooled: pooled CLIP states of the same captions.
        num_captions: number of captions of each scene.
        empty_ids: T5 token ids of the empty prompt, ``(1, 32)``.
        empty_pooled: pooled CLIP state of the empty prompt.
    """

    mean: Tensor
    std: Tensor
    ids: Tensor
    pooled: Tensor
    num_captions: int
    empty_ids: Tensor
    empty_pooled: Tensor

    def sample(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Samples packed latents, T5 token ids and pooled CLIP states of ``batch`` images, with a random caption."""
        device, num_scenes = self.mean.device, len(self.ids) // self.num_captions
        rows = torch.randint(len(self.mean), (batch,), device=device)
        texts = rows % num_scenes * self.num_captions + torch.randint(self.num_captions, (batch,), device=device)
        std = self.std[rows].float()
        clean = self.mean[rows].float() + std * torch.randn_like(std)
        return clean, self.ids[texts].long(), self.pooled[texts].float()


@torch.no_grad()
def pooled_states(clip: CLIPTextModel, ids: Tensor) -> Tensor:
    """Returns the pooled CLIP states ``(N, width)`` of token ids ``(N, 24)``."""
    return torch.cat([clip(part.long()).pooler_output for part in ids.split(8192)])


@torch.no_grad()
def encode_renderings(
    pocket: Path, renderings: Iterator[NDArray[np.uint8]], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Returns means and standard deviations of the packed latents of all renderings."""
    vae = AutoencoderKL.from_pretrained(pocket / "vae").to(device)
    means, stds = [], []
    for images in renderings:
        posterior = vae.encode(to_tensor(images).to(device) * 2 - 1).latent_dist
        means.append(pack(posterior.mean * vae.config.scaling_factor).half())
        stds.append(pack(posterior.std * vae.config.scaling_factor).half())
    return torch.cat(means), torch.cat(stds)


def build_dataset(
    pocket: Path,
    t5: PreTrainedTokenizerFast,
    device: torch.device,
    *,
    copies: int,
    num_captions: int,
    limit: int | None,
) -> Dataset:
    """Renders, captions and encodes every training scene.

    Call it before the GPU is first used: on Linux the workers are forked.

    Args:
        pocket: folder with the autoencoder and the CLIP text encoder.
        t5: the T5 tokenizer.
        device: the training device.
        copies: number of renderings of each scene.
        num_captions: number of captions of each scene.
        limit: maximum number of scenes.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer, scenes = CLIPTokenizer.from_pretrained(pocket / "tokenizer"), training_scenes(limit)
    starts = range(0, len(scenes), SCENES_PER_TASK)
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with context.Pool(initializer=set_up_worker, initargs=(scenes, tokenizer, t5)) as pool:
        tokens = pool.imap(caption_task, [(start, num_captions) for start in starts])
        renderings = pool.imap(render_task, [(start, copy) for copy in range(copies) for start in starts])
        t5_ids, clip_ids = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*tokens, strict=True))
        mean, std = encode_renderings(pocket, renderings, device)
    clip = CLIPTextModel.from_pretrained(pocket / "text_encoder", dtype=torch.float32).to(device).eval()
    empty = torch.from_numpy(token_ids(tokenizer, [""], CLIP_CONTEXT)).to(device)
    return Dataset(
        *(mean, std),
        ids=t5_ids.to(device),
        pooled=pooled_states(clip, clip_ids.to(device)).half(),
        num_captions=num_captions,
        empty_ids=torch.from_numpy(token_ids(t5, [""], CONTEXT)).to(device).long(),
        empty_pooled=pooled_states(clip, empty),
    )
