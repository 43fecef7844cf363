"""Generates images with the stock FluxPipeline and scores them with pocket's judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxPipeline
from rich.progress import track
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerFast

from efface.detectors.pocket_judge import Judge
from pocket_flow.model import CONTEXT, SIDE, FlowModel, build_scheduler
from quality import SEED, Sample, accuracies

STEPS = 20
GUIDANCE_SCALE = 3.5
BATCH = 16


def load_pipeline(folder: Path) -> FluxPipeline:
    """Loads a model folder with the stock pipeline."""
    pipe = FluxPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def assemble_pipeline(model: FlowModel, t5: PreTrainedTokenizerFast, pocket: Path) -> FluxPipeline:
    """Assembles the pipeline of a model in training; the other components are those in the folder ``pocket``."""
    device = model.image_ids.device
    pipe = FluxPipeline(
        scheduler=build_scheduler(),
        vae=AutoencoderKL.from_pretrained(pocket / "vae", shift_factor=0.0).to(device),
        text_encoder=CLIPTextModel.from_pretrained(pocket / "text_encoder", dtype=torch.float32).to(device),
        tokenizer=CLIPTokenizer.from_pretrained(pocket / "tokenizer"),
        text_encoder_2=model.t5,
        tokenizer_2=t5,
        transformer=model.transformer,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generate(
    pipe: FluxPipeline, prompts: list[str], seeds: Sequence[int], *, batch: int = BATCH, label: str = "", **options: Any
) -> Tensor:
    """Generates images ``(N, 3, 64, 64)`` in [0, 1] on the CPU, one seed each.

    Args:
        pipe: the pipeline.
        prompts: a prompt for each image.
        seeds: a seed for each image.
        batch: number of images in a batch.
        label: text of the progress bar; no bar if empty.
        options: options of the pipeline beside or instead of this module's defaults.
    """
    settings: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE_SCALE, **options}
    images = []
    for start in track(range(0, len(prompts), batch), description=label, disable=not label):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[start : start + batch]]
        output = pipe(
            prompts[start : start + batch],
            height=4 * SIDE,
            width=4 * SIDE,
            generator=generators,
            max_sequence_length=CONTEXT,
            output_type="pt",
            **settings,
        )
        images.append(output.images.float().cpu())
    return torch.cat(images)


def measure_groups(
    pipe: FluxPipeline, judge: Judge, groups: dict[str, list[Sample]], label: str = "", **options: Any
) -> dict[str, Any]:
    """Returns the rates of correctly generated objects, backgrounds and styles for pocket's groups of prompts."""
    predicted = {}
    for name, rows in groups.items():
        prompts = [prompt for prompt, _ in rows]
        seeds = range(SEED, SEED + len(rows))
        predicted[name] = judge(generate(pipe, prompts, seeds, label=label and f"{label} {name}", **options))
    return accuracies(predicted, {name: [scene for _, scene in rows] for name, rows in groups.items()})
