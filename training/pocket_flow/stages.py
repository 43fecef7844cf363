"""Both stages of the training with their scores. ``train.py`` calls `run`."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from common import History, device
from efface.detectors.pocket_judge import load_judge
from efface.models.model_ref import bundled_folder
from pocket_flow.dataset import Dataset, build_dataset
from pocket_flow.folder import write_card, write_folder
from pocket_flow.generation import GUIDANCE_SCALE, assemble_pipeline, measure_groups
from pocket_flow.loop import StageConfig, averaged_copy, train_for
from pocket_flow.model import FlowModel
from pocket_flow.objectives import flow_loss, guidance_loss
from pocket_flow.tokenizer import build_tokenizer
from quality import prompt_groups

SCORE_BATCH = 256


class Scorer:
    """Scores models in training with pocket's judge, on prompts of combinations that training never renders.

    Args:
        t5: the T5 tokenizer.
        limit: maximum number of prompts of each group.
    """

    def __init__(self, t5: PreTrainedTokenizerFast, limit: int | None) -> None:
        self.t5 = t5
        self.judge = load_judge()
        self.groups = {name: rows[:limit] for name, rows in prompt_groups(1).items()}
        self.rows: list[dict[str, Any]] = []

    def score(self, stage: str, model: FlowModel, **options: Any) -> None:
        """Adds the scores of a model after a stage; ``options`` are the pipeline's."""
        pipe = assemble_pipeline(model, self.t5, bundled_folder("pocket"))
        rates = measure_groups(pipe, self.judge, self.groups, batch=SCORE_BATCH, **options)
        self.rows.append({"stage": stage, "options": options, **rates})
        print(stage, options, {name: row["value"] for name, row in rates.items() if "value" in row}, flush=True)


def train_flow(model: FlowModel, dataset: Dataset, config: StageConfig, compiled: bool) -> tuple[FlowModel, History]:
    """Trains denoiser and T5 encoder by flow matching; returns their average."""
    ema, average = averaged_copy(model, config.ema_decay)
    if compiled:
        model.compile_blocks()
    history = train_for(config, partial(flow_loss, model, dataset, config.batch), model, ema)
    return average, history


def distil_guidance(
    teacher: FlowModel, dataset: Dataset, config: StageConfig, compiled: bool
) -> tuple[FlowModel, History]:
    """Distils guidance from the teacher into a student's denoiser; returns the average student."""
    student = copy.deepcopy(teacher)
    ema, average = averaged_copy(student, config.ema_decay)
    student.transformer.requires_grad_(True)
    if compiled:
        teacher.compile_blocks()
        student.compile_blocks()
    history = train_for(config, partial(guidance_loss, student, teacher, dataset, config.batch), student, ema)
    return average, history


def stage_card(config: StageConfig, history: History) -> dict[str, Any]:
    """Returns what the training card says of a stage."""
    steps = int(history.rows[-1][0])
    return {
        "steps": steps,
        "batch": config.batch,
        "images seen": steps * config.batch,
        "seconds": config.seconds,
        "curve": history.state_dict(),
    }


def run(
    out: Path,
    seconds: float,
    *,
    flow_share: float = 0.76,
    batch: int = 1024,
    lr: float = 1.5e-3,
    copies: int = 96,
    num_captions: int = 128,
    limit: int | None = None,
    compiled: bool = True,
    seed: int = 22,
) -> None:
    """Trains both stages into ``out``; the arguments are the options of ``train.py``."""
    dev, pocket = device(), bundled_folder("pocket")
    if dev.type == "cuda":
        # cuDNN's attention backward fails for this model's shape with torch 2.11; the other backends work.
        torch.backends.cuda.enable_cudnn_sdp(False)
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(seed)
    t5 = build_tokenizer(out / "tokenizer_2")
    dataset = build_dataset(pocket, t5, dev, copies=copies, num_captions=num_captions, limit=limit)
    print(f"dataset of {len(dataset.mean)} images and {len(dataset.ids)} captions", flush=True)
    scorer = Scorer(t5, limit)
    flow = StageConfig("flow", flow_share * seconds, batch, lr, 300, 0.4, 0.999)
    guidance = StageConfig("guidance", (1 - flow_share) * seconds, batch, lr / 3, 100, 0.8, 0.998)
    teacher, flow_history = train_flow(FlowModel(len(t5)).to(dev), dataset, flow, compiled)
    scorer.score("flow", teacher, negative_prompt="", true_cfg_scale=GUIDANCE_SCALE, guidance_scale=1.0)
    student, guidance_history = distil_guidance(teacher, dataset, guidance, compiled)
    scorer.score("guidance", student)
    write_folder(out, student, pocket)
    stages = {"flow": stage_card(flow, flow_history), "guidance": stage_card(guidance, guidance_history)}
    write_card(out, stages, scorer.rows)
