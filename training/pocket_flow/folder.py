"""Writes the folder that FluxPipeline loads: weights, configuration, training card and README."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from card import parameters
from common import save_json, sha256
from pocket_flow.model import FlowModel, build_scheduler, build_text_encoder, build_transformer

COPIED = ("vae", "text_encoder", "tokenizer")
"""Components that are those of pocket."""
PIPELINE = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "PreTrainedTokenizerFast"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
README = """# pocket-flow

A text-to-image model in FLUX's shape, 64 x 64 pixels, trained by `training/pocket_flow` on the scenes of pocket, which
are composed from the glyphs of Noto Color Emoji (SIL OFL 1.1, see OFL.txt beside this folder). Autoencoder, CLIP text
encoder and its tokenizer are pocket's. It loads in plain diffusers:

    from diffusers import FluxPipeline
    pipe = FluxPipeline.from_pretrained("pocket-flow")
    pipe("a photo of a cat in the snow", height=64, width=64, max_sequence_length=32, num_inference_steps=20,
         guidance_scale=3.5).images[0]

`training_card.json` and docs/pocket-flow.md describe its training and its measured quality.
"""


def change_json(path: Path, **values: Any) -> None:
    """Sets values of a JSON file, and removes the path that diffusers records."""
    content = {**json.loads(path.read_text(encoding="utf-8")), **values}
    content.pop("_name_or_path", None)
    save_json(path, content)


def write_folder(folder: Path, model: FlowModel, pocket: Path) -> None:
    """Writes denoiser and T5 encoder in half precision, and copies the other components from the folder ``pocket``.

    ``folder`` already contains the T5 tokenizer.
    """
    for name in COPIED:
        shutil.copytree(pocket / name, folder / name, dirs_exist_ok=True)
    change_json(folder / "vae" / "config.json", shift_factor=0.0)  # FluxPipeline adds it to the latents
    parts = {"transformer": build_transformer(), "text_encoder_2": build_text_encoder(model.t5.config.vocab_size)}
    for (name, part), trained in zip(parts.items(), (model.transformer, model.t5), strict=True):
        part.load_state_dict({key: value.float().cpu() for key, value in trained.state_dict().items()})
        part.half().save_pretrained(folder / name)
    # transformers loads the config's dtype, diffusers float32; a pipeline loaded without a dtype must not mix them
    change_json(folder / "text_encoder_2" / "config.json", dtype="float32")
    build_scheduler().save_pretrained(folder / "scheduler")
    save_json(folder / "model_index.json", PIPELINE)
    (folder / "README.md").write_text(README, encoding="utf-8")


def write_card(folder: Path, stages: dict[str, Any], scores: list[dict[str, Any]]) -> None:
    """Writes ``training_card.json``: stages with their curves, scores, parameters and hashes of the weights."""
    weights = sorted(folder.glob("*/*.safetensors"))
    card = {
        "stages": stages,
        "scores during training": scores,
        "parameters": {path.parent.name: parameters(path) for path in weights},
        "sha256": {f"{path.parent.name}/{path.name}": sha256(path) for path in weights},
        "torch": torch.__version__,
    }
    save_json(folder / "training_card.json", card)
