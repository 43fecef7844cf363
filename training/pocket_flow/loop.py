"""The training loop of a stage: it runs for a given time, with a moving average of the weights."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from common import Ema, History
from pocket_flow.model import FlowModel

SECONDS_PER_LOG = 5


@dataclass(frozen=True)
class StageConfig:
    """Settings of a stage.

    Attributes:
        name: name of the stage.
        seconds: training time.
        batch: number of images in a step.
        lr: maximum learning rate.
        warmup_steps: number of steps over which the learning rate rises.
        decay_share: share of the time over which the learning rate falls to zero, at the end.
        ema_decay: decay of the moving average.
    """

    name: str
    seconds: float
    batch: int
    lr: float
    warmup_steps: int
    decay_share: float
    ema_decay: float

    def learning_rate(self, step: int, share: float) -> float:
        """Returns the learning rate at a step, after a share of the training time."""
        return self.lr * min(1.0, (step + 1) / self.warmup_steps, max(0.0, 1 - share) / self.decay_share)


def averaged_copy(model: FlowModel, decay: float) -> tuple[Ema, FlowModel]:
    """Returns the moving average of the weights, and a copy of the model whose parameters are the average's tensors."""
    ema, average = Ema(model, decay), copy.deepcopy(model).requires_grad_(False)
    average.load_state_dict(ema.shadow, assign=True)
    return ema, average


def train_step(loss_fn: Callable[[], Tensor], optimiser: torch.optim.Optimizer, device: torch.device) -> Tensor:
    """Runs one optimisation step, in bfloat16 on CUDA; returns the loss."""
    optimiser.zero_grad()
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        loss = loss_fn()
    loss.backward()
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
    optimiser.step()
    return loss.detach()


def train_for(config: StageConfig, loss_fn: Callable[[], Tensor], model: FlowModel, ema: Ema) -> History:
    """Trains the model's parameters that require a gradient until the stage's time is over; returns the curve."""
    device, history = model.image_ids.device, History()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    smooth = torch.zeros((), device=device)
    started = last_log = time.monotonic()
    step = last_step = 0
    while (share := (time.monotonic() - started) / config.seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate(step, share)
        loss = train_step(loss_fn, optimiser, device)
        ema.update(model, step)
        smooth.lerp_(loss, 0.02 if step > 100 else 0.2)
        step += 1
        if step % 20 and time.monotonic() - started < config.seconds:
            continue
        value = float(smooth)  # waits for the device, so that the speed below is correct
        if not math.isfinite(value):
            raise SystemExit(f"{config.name}: the loss is {value} at step {step}")
        now = time.monotonic()
        if now - last_log > SECONDS_PER_LOG or now - started >= config.seconds:
            speed = (step - last_step) * config.batch / (now - last_log)
            history.add(step, {"seconds": round(now - started, 1), "loss": round(value, 5), "images/s": round(speed)})
            print(config.name, dict(zip(history.columns, history.rows[-1], strict=True)), flush=True)
            last_log, last_step = now, step
    return history
