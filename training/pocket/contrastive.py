"""Stage ``clip``: a BPE tokenizer of the captions, and a text and image tower trained contrastively on renderings.

The text tower is a stock CLIPTextModel and becomes pocket's frozen text encoder; the image tower serves the CLIP score.
Loss: InfoNCE in both directions with a learned temperature (Radford et al. 2021, arXiv 2103.00020). Pairs of one batch
with the same caption are not negatives of each other.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from common import Checkpoint, device, random_scene, render, save_json, step_rng, to_tensor, train
from efface.models.convnet import ConvNet
from efface.pocket_world import caption, load_world

CONTEXT, WIDTH, LAYERS, HEADS, PROJECTION = 24, 128, 4, 4, 128
VOCABULARY = 1400
BOS, EOS = "<|startoftext|>", "<|endoftext|>"
IMAGE_WIDTHS = (32, 48, 96, 160)


def build_tokenizer(folder: Path, seed: int) -> CLIPTokenizer:
    """Trains CLIP's byte-level BPE (end-of-word suffix ``</w>``) on captions and saves it in CLIP's format."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = step_rng(seed, 0)
    world = load_world()
    texts = [caption(world, random_scene(rng), rng) for _ in range(60_000)]
    raw = Tokenizer(models.BPE(unk_token=EOS, continuing_subword_prefix="", end_of_word_suffix="</w>"))
    words = pre_tokenizers.Split(Regex(r"[a-z]+|[0-9]|[^\sa-z0-9]+"), "removed", invert=True)
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
        min_frequency=2,
    )
    raw.train_from_iterator(texts, trainer)
    merges = [tuple(m) for m in json.loads(raw.to_str())["model"]["merges"]]
    tokens = [*alphabet, *(f"{a}</w>" for a in alphabet), *("".join(m) for m in merges), BOS, EOS]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=CONTEXT)
    tokenizer.save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def build_text(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Builds the untrained text tower. With the default ``eos_token_id``, CLIP would pool the first token's state."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            max_position_embeddings=CONTEXT,
            projection_dim=PROJECTION,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class Pair(nn.Module):
    """Both towers with their projections and the temperature."""

    def __init__(self, text: CLIPTextModel) -> None:
        super().__init__()
        self.text = text
        self.image = ConvNet(IMAGE_WIDTHS)
        self.text_projection = nn.Linear(WIDTH, PROJECTION, bias=False)
        self.image_projection = nn.Linear(self.image.width, PROJECTION, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(2.3))

    def forward(self, images: Tensor, ids: Tensor) -> Tensor:
        """Returns the scaled similarities of every image with every text, ``(B, B)``."""
        image_embedding = nn.functional.normalize(self.image_projection(self.image(images)), dim=-1)
        text_embedding = nn.functional.normalize(self.text_projection(self.text(ids).pooler_output), dim=-1)
        return self.log_scale.clamp(max=4.0).exp() * image_embedding @ text_embedding.T


def run(out: Path, *, steps: int = 1600, batch: int = 128, lr: float = 1e-3, seed: int = 2) -> None:
    """Trains tokenizer and towers into ``out/tokenizer``, ``out/text_encoder`` and ``out/clip``."""
    torch.manual_seed(seed)
    dev, world = device(), load_world()
    tokenizer = build_tokenizer(out / "tokenizer", seed)
    pair = Pair(build_text(tokenizer)).to(dev)
    optimiser = torch.optim.AdamW(pair.parameters(), lr=lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.1)

    def one_step(step: int) -> dict[str, float]:
        rng = step_rng(seed, step)
        scenes = [random_scene(rng) for _ in range(batch)]
        texts = [caption(world, s, rng) for s in scenes]
        ids = tokenizer(
            texts, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
        ).input_ids.to(dev)
        images = to_tensor(render(scenes, rng)).to(dev)
        same = (ids[:, None] == ids[None]).all(-1)
        same.fill_diagonal_(False)
        with torch.autocast(dev.type, dtype=torch.bfloat16):
            scores = pair(images, ids)
        scores = scores.float().masked_fill(same, -1e4)
        target = torch.arange(batch, device=dev)
        loss = (nn.functional.cross_entropy(scores, target) + nn.functional.cross_entropy(scores.T, target)) / 2
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(pair.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        return {"loss": loss.item(), "accuracy": (scores.argmax(1) == target).float().mean().item()}

    checkpoint = Checkpoint(out / "run" / "clip", model=pair, optimiser=optimiser, schedule=schedule)
    train("clip", steps, checkpoint, one_step)
    save(pair.eval(), out)
    checkpoint.history.write(out / "run" / "clip" / "log.json", steps=steps, batch=batch, seed=seed)


def save(pair: Pair, out: Path) -> None:
    """Saves the text tower in transformers' layout, the image tower and the projections in a second folder."""
    pair.text.half().save_pretrained(out / "text_encoder")
    clip_tensors = {
        k: v.half().contiguous()
        for k, v in pair.state_dict().items()
        if not k.startswith("text.") and v.is_floating_point()
    }
    (out / "clip").mkdir(exist_ok=True)
    save_file(clip_tensors, out / "clip" / "model.safetensors")
    save_json(
        out / "clip" / "config.json", {"widths": list(IMAGE_WIDTHS), "projection": PROJECTION, "text_width": WIDTH}
    )
