"""Trains pocket-janus: ``python training/pocket_janus/train.py --out pocket-janus-run``; resumes after a kill.

The learning rate falls in the last fifth of the steps; until then a run can be shortened or prolonged. One caption in
ten is replaced by padding, which is what transformers gives the unconditional half of a batch.
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
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from transformers import JanusForConditionalGeneration, PreTrainedTokenizerFast

from common import WORLD, Checkpoint, save_json, step_rng, train
from efface.detectors.pocket_judge import load_judge
from efface.pocket_world import NOTHING, Scene, caption
from efface.pocket_world.captions import assemble, noun_phrase
from pocket_janus.image_tokens import load_image_tokenizer, load_tokens, training_scenes
from pocket_janus.model import build_model
from pocket_janus.tokenizer import load_tokenizer
from pocket_janus.validation import prompt_ids, score
from quality import named_prompts, sample_style

WARM_UP, DECAY_SHARE, DROP_CAPTION = 60, 0.2, 0.1
PRIMARY_SHARE = 0.7
"""Share of captions with the object's primary name; with every caption from the grammar, objects are learnt late."""


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Returns the rate: linear warm-up, constant, linear decay to a hundredth."""
    left = (steps - step) / (DECAY_SHARE * steps)
    return peak * min((step + 1) / WARM_UP, max(left, 0.01), 1.0)


def sample_caption(scene: Scene, rng: np.random.Generator) -> str:
    """Samples a caption of a scene: with the object's primary name, or from the whole grammar."""
    if scene.object == NOTHING or rng.random() >= PRIMARY_SHARE:
        return caption(WORLD, scene, rng)
    item, (prefix, suffix) = WORLD.object_classes[scene.object], sample_style(scene, rng)
    places = ("", *WORLD.backgrounds[scene.background].phrases)
    return assemble(noun_phrase(item, item.name), places[int(rng.integers(len(places)))], prefix, suffix)


class Batches:
    """Samples captions and image tokens of training scenes."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, tokens: Tensor, size: int) -> None:
        self.tokenizer, self.tokens, self.size = tokenizer, tokens, size
        self.scenes = training_scenes()

    def sample(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Returns token ids and mask of captions ``(B, L)``, and image tokens ``(B, 64)``."""
        rows = rng.integers(len(self.scenes), size=self.size)
        copies = rng.integers(len(self.tokens), size=self.size)
        ids, mask = prompt_ids(self.tokenizer, [sample_caption(self.scenes[int(i)], rng) for i in rows])
        is_special = (ids == self.tokenizer.bos_token_id) | (ids == self.tokenizer.convert_tokens_to_ids(
            self.tokenizer.boi_token
        ))  # fmt: skip
        dropped = torch.from_numpy(rng.random(self.size) < DROP_CAPTION)[:, None] & ~is_special
        return ids.masked_fill(dropped, self.tokenizer.pad_token_id), mask, self.tokens[copies, rows].long()


def image_loss(model: JanusForConditionalGeneration, ids: Tensor, mask: Tensor, image: Tensor) -> Tensor:
    """Returns the cross-entropy of every image token after the caption and the tokens before it."""
    text = model.get_input_embeddings()(ids)
    embeddings = torch.cat([text, model.prepare_embeddings_for_image_generation(image[:, :-1])], dim=1)
    mask = torch.cat([mask, mask.new_ones(len(image), image.shape[1] - 1)], dim=1)
    states = model.model.language_model(inputs_embeds=embeddings, attention_mask=mask, use_cache=False)
    logits = model.model.generation_head(states.last_hidden_state[:, ids.shape[1] - 1 :])
    return cross_entropy(logits.flatten(0, 1), image.flatten())


def trained_parameters(model: JanusForConditionalGeneration) -> list[torch.nn.Parameter]:
    """Returns the parameters that generate images; the vision tower and the VQ-VAE stay as they are."""
    parts = (model.model.language_model, model.model.generation_embeddings, model.model.generation_aligner)
    return [p for part in (*parts, model.model.generation_head) for p in part.parameters()]


def write(model: JanusForConditionalGeneration, folder: Path) -> None:
    """Writes the weights in half precision, without the VQ-VAE, whose place the image tokenizer takes."""
    copy = deepcopy(model).half()
    state = {
        key: value for key, value in copy.state_dict().items() if ".vqmodel." not in key and key != "lm_head.weight"
    }
    copy.save_pretrained(folder, state_dict=state)


def main(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("pocket-janus-run"),
    steps: Annotated[int, typer.Option(help="Number of steps.")] = 2600,
    batch: Annotated[int, typer.Option(help="Number of images in a step.")] = 16,
    lr: Annotated[float, typer.Option(help="Maximum learning rate.")] = 2e-3,
    seed: Annotated[int, typer.Option(help="Seed of weights and batches.")] = 32,
    every: Annotated[int, typer.Option(help="Steps between two checkpoints with scores.")] = 100,
) -> None:
    """Trains, scores with pocket's judge on combinations that training never renders, and writes the model."""
    folder = out / "pocket-janus"
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(folder)
    images = load_image_tokenizer(folder / "image_tokenizer")
    batches = Batches(tokenizer, load_tokens(out / "tokens.safetensors", images), batch)
    model = build_model(tokenizer, images.codebook.weight, seed).train()
    optimiser = torch.optim.AdamW(trained_parameters(model), lr=lr, betas=(0.9, 0.98), weight_decay=0.05)
    checkpoint = Checkpoint(out, model=model, optimiser=optimiser)
    judge, prompts = load_judge(), named_prompts(step_rng(seed, 10**6), 1)

    def one_step(step: int) -> dict[str, float]:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, lr)
        loss = image_loss(model, *batches.sample(step_rng(seed, step)))
        optimiser.zero_grad()
        loss.backward()
        clip_grad_norm_(trained_parameters(model), 1.0)
        optimiser.step()
        return {"loss": loss.item()}

    def validate() -> None:
        write(model, folder)
        picks = np.random.default_rng(5).permutation(len(prompts))[:48]
        print(score(model, tokenizer, images, judge, [prompts[i] for i in picks], seed=seed), flush=True)

    train("pocket-janus", steps, checkpoint, one_step, at_checkpoint=validate, every=every)
    final = score(model, tokenizer, images, judge, prompts, seed=seed)
    checkpoint.history.write(out / "history.json", steps=steps, batch=batch, seed=seed)
    save_json(folder / "training_card.json", {**final, "prompts": len(prompts), "steps": steps, "batch": batch})


if __name__ == "__main__":
    typer.run(main)
