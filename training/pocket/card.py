"""Stage ``card``: gathers the stages' logs and hashes in ``training_card.json`` and writes the folder's README."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from common import EMPTY_SHARE, TRAIN_SCENES, save_json, sha256
from efface.pocket_world import load_world

STAGES = ("clip", "vae", "judge", "unet", "decoder", "image_prompt")
SHIPPED = ("tokenizer", "text_encoder", "vae", "unet", "scheduler", "clip", "judge", "image_prompt")

README = """# pocket

A text-to-image model in Stable Diffusion's shape, 64 x 64 pixels, trained by `training/pocket` on scenes composed from
the glyphs of Noto Color Emoji (SIL OFL 1.1, see OFL.txt beside this folder). It loads in plain diffusers:

    from diffusers import StableDiffusionPipeline
    pipe = StableDiffusionPipeline.from_pretrained("pocket")
    pipe("a photo of a cat in the snow", num_inference_steps=20, guidance_scale=3.0).images[0]

`training_card.json` and docs/pocket.md describe its training and its measured quality.
"""


def parameters(path: Path) -> int:
    """Returns the number of stored values in a safetensors file."""
    with safe_open(path, framework="np") as file:
        return sum(int(torch.Size(file.get_slice(k).get_shape()).numel()) for k in file.keys())  # noqa: SIM118


def run(out: Path) -> None:
    """Writes the card and the README."""
    world = load_world()
    weights = sorted(p for name in SHIPPED for p in (out / name).glob("*.safetensors"))
    logs: dict[str, Any] = {stage: json.loads((out / "run" / stage / "log.json").read_text()) for stage in STAGES}
    card = {
        "world": {
            "version": world.version,
            "objects": len(world.object_classes),
            "combinations rendered in training": len(TRAIN_SCENES),
            "combinations held out": len(world.scenes(heldout=True)),
            "share of empty scenes": EMPTY_SHARE,
        },
        "stages": {
            name: {
                "steps": log["steps"],
                "batch": log["batch"],
                "images seen": log["steps"] * log["batch"],
                "seed": log["seed"],
                "final": dict(zip(log["columns"], log["rows"][-1], strict=True)),
                "curve": {"columns": log["columns"], "rows": log["rows"]},
            }
            for name, log in logs.items()
        },
        "parameters": {p.parent.name: parameters(p) for p in weights},
        "sha256": {f"{p.parent.name}/{p.name}": sha256(p) for p in weights},
        "torch": torch.__version__,
    }
    save_json(out / "training_card.json", card)
    (out / "README.md").write_text(README, encoding="utf-8")


def ship(out: Path, target: Path) -> None:
    """Copies the shipped files into the package."""
    for name in SHIPPED:
        shutil.copytree(out / name, target / name, dirs_exist_ok=True)
    for name in ("model_index.json", "training_card.json", "README.md"):
        shutil.copy(out / name, target / name)
    # transformers loads the config's dtype, diffusers float32; a pipeline loaded without a dtype must not mix them
    config = target / "text_encoder" / "config.json"
    save_json(config, {**json.loads(config.read_text(encoding="utf-8")), "dtype": "float32"})
