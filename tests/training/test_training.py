"""The training scripts in miniature: they resume exactly after a kill, and their output is a pipeline."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from helpers import processes

import card
import contrastive
import decoder
import image_prompt
import judge
import sibling
import unet
import vae
from common import Checkpoint, Ema, step_rng, train
from efface.detectors.pocket_judge import Judge
from efface.models.loading import load_model


def train_toy(folder: Path, die: int = -1) -> None:
    """Trains a linear layer on numbers from both random generators; kills its process in the step `die`."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    optimiser = torch.optim.Adam(model.parameters(), 0.1)
    ema = Ema(model, 0.9)

    def one_step(step: int) -> dict[str, float]:
        if step == die:
            os.kill(os.getpid(), signal.SIGKILL)
        x = torch.from_numpy(step_rng(1, step).standard_normal((4, 3), dtype="float32")) + 0.01 * torch.randn(4, 3)
        loss = model(x).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        ema.update(model, step)
        return {"loss": loss.item()}

    point = Checkpoint(folder, model=model, optimiser=optimiser, ema=ema)
    train("toy", 12, point, one_step, every=4)
    rows = torch.tensor([row[0] for row in point.history.rows])
    torch.save([model.state_dict(), ema.state_dict(), {"steps": rows}], folder / "final.pt")


def test_a_killed_stage_resumes_to_the_same_weights(tmp_path):
    train_toy(tmp_path / "uninterrupted")
    killed = processes.start(train_toy, tmp_path / "killed", 6)
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    train_toy(tmp_path / "killed")
    one, two = (torch.load(tmp_path / n / "final.pt", weights_only=True) for n in ("uninterrupted", "killed"))
    assert one[2]["steps"].tolist() == [4, 8, 12]
    for a, b in zip(one, two, strict=True):
        assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.slow
def test_the_stages_produce_a_pipeline(tmp_path):
    torch.manual_seed(0)
    contrastive.run(tmp_path, steps=2, batch=4)
    vae.run(tmp_path, steps=2, batch=2)
    judge.run(tmp_path, steps=2, batch=16, n=64)
    unet.run(tmp_path, steps=2, batch=2, copies=1, compiled=False, limit=128)
    sibling.run(tmp_path, steps=1, batch=2, copies=1, limit=32)
    decoder.run(tmp_path, steps=2, batch=2)
    image_prompt.run(tmp_path, steps=2, batch=2)
    card.run(tmp_path)
    target = tmp_path / "shipped"
    card.ship(tmp_path, target)

    model = load_model(target, device="cpu")
    images = model.sample(["a cat", ""], seeds=[1, 2], num_inference_steps=2)
    assert images.shape == (2, 3, 64, 64)
    assert torch.isfinite(images).all()
    assert len(Judge.load(target / "judge")(images).object) == 2
    assert json.loads((target / "training_card.json").read_text())["stages"]["vae"]["images seen"] == 4
    assert not list(target.rglob("*.pt"))
    assert (tmp_path / "sibling" / "unet" / "diffusion_pytorch_model.safetensors").is_file()
