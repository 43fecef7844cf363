"""Trains pocket-lm: ``python training/pocket_lm/train.py --out pocket-lm-run --steps 1600``; resumes after a kill.

The learning rate falls in the last fifth of the steps; until then a run can be shortened or prolonged.
"""

from __future__ import annotations

import sys
from copy import deepcopy
from pathlib import Path
from typing import Annotated

if not __package__:  # run as a script: this folder's modules must not hide those of training/pocket
    TRAINING = Path(__file__).resolve().parents[1]
    sys.path[:1] = [str(TRAINING), str(TRAINING / "pocket")]

import numpy as np
import torch
import typer
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from common import Checkpoint, save_json, step_rng, train
from pocket_lm.corpus import text
from pocket_lm.model import build_model
from pocket_lm.questions import heldout_questions
from pocket_lm.tokenizer import END, load_tokenizer
from pocket_lm.validation import choice_accuracy, free_accuracy, perplexity

WARM_UP, DECAY_SHARE = 100, 0.2
BATCH, LENGTH = 16, 112


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Returns the rate: linear warm-up, constant, linear decay to a hundredth."""
    left = (steps - step) / (DECAY_SHARE * steps)
    return peak * min((step + 1) / WARM_UP, max(left, 0.01), 1.0)


def batch(tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator) -> torch.Tensor:
    """Samples token ids ``(BATCH, LENGTH)``: each row packs whole texts, its last one is cut."""
    rows = []
    for _ in range(BATCH):
        row: list[int] = []
        while len(row) < LENGTH:
            row += tokenizer(text(rng) + END).input_ids
        rows.append(row[:LENGTH])
    return torch.tensor(rows)


def scores(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int, n: int | None) -> dict[str, float]:
    """Returns accuracies on ``n`` of the test questions, or on all, and the perplexity."""
    questions = heldout_questions()
    if n:
        questions = [questions[i] for i in np.random.default_rng(5).permutation(len(questions))[:n]]
    return {
        "questions": len(questions),
        "several_choice": choice_accuracy(model, tokenizer, questions),
        "free": free_accuracy(model, tokenizer, questions),
        "perplexity": perplexity(model, tokenizer, seed=seed + 1, n=400 if n is None else 60),
    }


def main(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("pocket-lm-run"),
    steps: Annotated[int, typer.Option(help="Number of steps.")] = 1600,
    lr: Annotated[float, typer.Option(help="Maximum learning rate.")] = 3e-3,
    seed: Annotated[int, typer.Option(help="Seed of weights and texts.")] = 30,
) -> None:
    """Trains, scores on the test questions, and writes the model in half precision."""
    folder = out / "pocket-lm"
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(folder, seed)
    model = build_model(tokenizer, seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.05)
    checkpoint = Checkpoint(out, model=model, optimiser=optimiser)

    def one_step(step: int) -> dict[str, float]:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, lr)
        ids = batch(tokenizer, step_rng(seed, step))
        loss = cross_entropy(model(ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        return {"loss": loss.item()}

    def write() -> None:
        deepcopy(model).half().save_pretrained(folder)

    def validate() -> None:
        write()
        print(scores(model, tokenizer, seed, n=60), flush=True)

    train("pocket-lm", steps, checkpoint, one_step, at_checkpoint=validate, every=250)
    write()
    final = {key: round(value, 4) for key, value in scores(model, tokenizer, seed, n=None).items()}
    checkpoint.history.write(out / "history.json", steps=steps, batch=BATCH, seed=seed)
    save_json(folder / "training_card.json", final | {"steps": steps, "batch": BATCH, "length": LENGTH, "seed": seed})


if __name__ == "__main__":
    typer.run(main)
