"""Trains pocket-janus: ``python training/pocket_janus/train.py --out pocket-janus-run``; resumes after a kill.

The learning rate falls in the last steps (`decay_share`); until then a run can be shortened or prolonged. One caption
in ten is replaced by padding, which is what transformers gives the unconditional half of a batch.

In half of the images a random share of the earlier image tokens is hidden behind padding. Else every token but an
object's first follows from its neighbours, and the loss hardly asks for the object's word. A linear layer that is
thrown away afterwards reads from the states between the layers what the caption says and which token of the image is
next, which makes them carry both.
"""

from __future__ import annotations

import sys
from copy import deepcopy
from pathlib import Path
from typing import Annotated

if not __package__:  # run as a script: this folder's modules must not hide those of training/pocket
    TRAINING = Path(__file__).resolve().parents[1]
    sys.path[:1] = [str(TRAINING), str(TRAINING / "pocket")]

import torch
import typer
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from transformers import JanusForConditionalGeneration

from common import Checkpoint, save_json, step_rng, train
from efface.detectors.pocket_judge import load_judge
from pocket_janus.batches import FACTS, UNKNOWN, Batch, Batches
from pocket_janus.image_tokens import SIDE, load_image_tokenizer, load_tokens
from pocket_janus.model import LAYERS, WIDTH, build_model
from pocket_janus.tokenizer import load_tokenizer
from pocket_janus.validation import score
from quality import named_prompts

WARM_UP = 60
READING_STEPS, READING_WEIGHT = 300, 1.0
"""Number of first steps that only learn to read, and the weight of reading later."""
READ = (*(len(values) for values in FACTS.values()), SIDE * SIDE)
"""Number of classes of each fact, and of positions."""


def learning_rate(step: int, steps: int, peak: float, decay_share: float) -> float:
    """Returns the rate: linear warm-up, constant, and in the last share of the steps linear decay to a hundredth."""
    left = (steps - step) / (decay_share * steps)
    return peak * min((step + 1) / WARM_UP, max(left, 0.01), 1.0)


def losses(model: JanusForConditionalGeneration, reader: torch.nn.Linear, batch: Batch) -> tuple[Tensor, Tensor]:
    """Returns the cross-entropy of the image tokens, and that of reading the facts and the position, ``(4,)``.

    An image token is predicted from the caption and from those tokens before it that are not hidden.
    """
    text = model.get_input_embeddings()(batch.ids)
    padding = model.get_input_embeddings()(batch.ids.new_full((), model.config.text_config.pad_token_id))
    earlier = model.prepare_embeddings_for_image_generation(batch.image[:, :-1])
    embeddings = torch.cat([text, torch.where(batch.hidden[:, :-1, None], padding, earlier)], dim=1)
    mask = torch.cat([batch.mask, batch.mask.new_ones(earlier.shape[:2])], dim=1)
    states = model.model.language_model(
        inputs_embeds=embeddings, attention_mask=mask, use_cache=False, output_hidden_states=True
    )
    start = batch.ids.shape[1] - 1
    logits = model.model.generation_head(states.last_hidden_state[:, start:])
    positions = torch.arange(batch.image.shape[1]).expand(batch.image.shape)
    read = reader(states.hidden_states[LAYERS // 2][:, start:]).flatten(0, 1).split(READ, dim=1)
    labels = [*batch.facts.T[..., None].expand(-1, *positions.shape), positions]
    reading = [
        cross_entropy(logits, label.flatten(), ignore_index=UNKNOWN) for logits, label in zip(read, labels, strict=True)
    ]
    return cross_entropy(logits.flatten(0, 1), batch.image.flatten()), torch.stack(reading)


def trained_parts(model: JanusForConditionalGeneration) -> dict[str, torch.nn.Module]:
    """Returns the modules that generate images, by name; the vision tower and the VQ-VAE stay as they are."""
    names = ("language_model", "generation_embeddings", "generation_aligner", "generation_head")
    return {name: getattr(model.model, name) for name in names}


def parameter_counts(model: JanusForConditionalGeneration) -> dict[str, int]:
    """Returns the number of parameters of each trained part."""
    return {name: sum(p.numel() for p in part.parameters()) for name, part in trained_parts(model).items()}


def write(model: JanusForConditionalGeneration, folder: Path) -> None:
    """Writes the weights in half precision, without the VQ-VAE, whose place the image tokenizer takes."""
    copy = deepcopy(model).half()
    state = {
        key: value for key, value in copy.state_dict().items() if ".vqmodel." not in key and key != "lm_head.weight"
    }
    copy.save_pretrained(folder, state_dict=state)


def main(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("pocket-janus-run"),
    steps: Annotated[int, typer.Option(help="Number of steps.")] = 10_000,
    batch: Annotated[int, typer.Option(help="Number of images in a step.")] = 16,
    lr: Annotated[float, typer.Option(help="Maximum learning rate.")] = 2.5e-3,
    decay_share: Annotated[float, typer.Option(help="Share of the steps in which the rate falls.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Seed of weights and batches.")] = 32,
    primary_share: Annotated[float, typer.Option(help="Share of captions with an object's primary name.")] = 0.7,
    every: Annotated[int, typer.Option(help="Steps between two checkpoints with scores.")] = 100,
) -> None:
    """Trains, scores with pocket's judge on combinations that training never renders, and writes the model."""
    folder = out / "pocket-janus"
    torch.set_num_threads(1)
    tokenizer, images = load_tokenizer(folder), load_image_tokenizer(folder / "image_tokenizer")
    batches = Batches(tokenizer, load_tokens(out / "tokens.safetensors", images), batch, primary_share)
    model = build_model(tokenizer, images.codebook.weight, seed).train()
    reader = torch.nn.Linear(WIDTH, sum(READ))
    parameters = [p for part in (*trained_parts(model).values(), reader) for p in part.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0.05)
    checkpoint = Checkpoint(out, model=model, reader=reader, optimiser=optimiser)
    judge, prompts = load_judge(), named_prompts(step_rng(seed, 10**6), 1)

    def one_step(step: int) -> dict[str, float]:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, lr, decay_share)
        loss, reading = losses(model, reader, batches.sample(step_rng(seed, step)))
        optimiser.zero_grad()
        (reading.sum() if step < READING_STEPS else loss + READING_WEIGHT * reading.sum()).backward()
        clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        return {"loss": loss.item(), **dict(zip((*FACTS, "position"), reading.tolist(), strict=True))}

    def validate() -> None:
        write(model, folder)
        print(score(model, tokenizer, images, judge, prompts[::4], seed=seed), flush=True)

    train("pocket-janus", steps, checkpoint, one_step, at_checkpoint=validate, every=every)
    checkpoint.history.write(out / "history.json", steps=steps, batch=batch, seed=seed)
    card = {"prompts": len(prompts), "steps": steps, "batch": batch, "parameters": parameter_counts(model)}
    save_json(folder / "training_card.json", score(model, tokenizer, images, judge, prompts, seed=seed) | card)


if __name__ == "__main__":
    typer.run(main)
