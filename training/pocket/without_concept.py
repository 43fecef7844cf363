"""Trains pocket's denoiser on the world without a concept: ``python training/pocket/without_concept.py pocket-weapon``.

Two models with a known truth, as artifacts for pocket:

- ``erased``: pocket trained further. Captions of the concept go with the empty place, all others with their scene.
- ``never``: a denoiser trained from nothing on the scenes without the concept; the control of `efface attack`.

Both read the ontology, which no method may do. They calibrate the verdict and give attacks a control.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from common import Ema, device, render, step_rng, to_tensor
from denoiser import DenoiserTraining, FrozenText, averaged_unet, build, training_scenes
from efface.benchmarks.benchmark import Benchmark
from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.spec import RunSpec
from efface.models.loading import load_model
from efface.ops.tensor_conversion import to_blob
from efface.pocket_world import Scene
from efface.pocket_world.world import NOTHING

POCKET = Path(__file__).parents[2] / "src" / "efface" / "models" / "data" / "pocket"
STEPS = {"erased": 1500, "never": 9000}
LEARNING_RATE = {"erased": 4e-4, "never": 1.5e-3}


def scenes_without(kind: str, benchmark: Benchmark) -> tuple[list[Scene], list[Scene]]:
    """Returns the scenes that captions describe, and the scenes that are rendered for them.

    Raises:
        SystemExit: the concept is not one of objects.
    """
    if benchmark.head != "object":
        raise SystemExit(f"{benchmark.name} measures {benchmark.head!r}: only objects can be left out of the scenes")
    described = [s for s in training_scenes() if kind == "erased" or s.object not in benchmark.classes]
    shown = [replace(s, object=NOTHING) if s.object in benchmark.classes else s for s in described]
    return described, shown


@torch.no_grad()
def encode(vae: AutoencoderKL, scenes: list[Scene], copies: int, seed: int) -> Tensor:
    """Returns latents of the scenes, ``(copies * N, 4, 16, 16)``, copy by copy."""
    parts = []
    for copy in range(copies):
        rng = step_rng(seed, copy)
        for start in range(0, len(scenes), 128):
            images = to_tensor(render(scenes[start : start + 128], rng)) * 2 - 1
            parts.append(vae.encode(images).latent_dist.mean * vae.config.scaling_factor)
    return torch.cat(parts)


def to_artifact(unet: UNet2DConditionModel, concept: Concept, kind: str, steps: int) -> Erasure:
    """Returns the trained denoiser as an erasure of pocket."""
    model = load_model("pocket", device="cpu")
    paths, trained = model.parameter_group("unet_all").paths, unet.state_dict()
    tensors = {f"unet.{name}": to_blob(trained[path].half()) for name, path in paths.items()}
    edit = Edit("unet", "replace", {name: f"unet.{name}" for name in paths})
    spec = RunSpec("pocket", model.fingerprint(), f"without_concept_{kind}", {"steps": steps}, (concept,), preset="")
    return Erasure(spec, (edit,), tensors)


def main(
    benchmark: Annotated[str, typer.Argument(help="Benchmark whose concept is left out.")],
    kind: Annotated[str, typer.Option(help="erased (pocket trained further) or never (from nothing).")] = "erased",
    out: Annotated[Path, typer.Option(help="Folder for the artifact and the checkpoints.")] = Path("without-concept"),
    steps: Annotated[int | None, typer.Option(help="Number of training steps (default: the kind's own).")] = None,
    copies: Annotated[int, typer.Option(help="Number of renderings of each scene.")] = 4,
) -> None:
    """Trains one model; resumes after a kill."""
    steps, measured, seed = steps or STEPS[kind], Benchmark.load(benchmark), 31
    torch.manual_seed(seed)
    folder, dev = out / kind, device()
    text = FrozenText.load(POCKET, dev)
    described, shown = scenes_without(kind, measured)
    vae = AutoencoderKL.from_pretrained(POCKET / "vae", dtype=torch.float32)
    latents = encode(vae, shown, copies, seed)
    unet = build().to(dev)
    if kind == "erased":
        unet.load_state_dict(UNet2DConditionModel.from_pretrained(POCKET / "unet", dtype=torch.float32).state_dict())
    ema = Ema(unet, 0.995)

    def save() -> None:
        shutil.rmtree(folder / "artifact", ignore_errors=True)
        to_artifact(averaged_unet(ema), measured.concept, kind, steps).save(folder / "artifact")

    settings = (kind, steps, 48, LEARNING_RATE[kind], seed, 50)
    training = DenoiserTraining(*settings, lambda rows, _: latents[rows], len(latents))
    training.run(folder, unet, text, described, ema, save, unet)


if __name__ == "__main__":
    typer.run(main)
