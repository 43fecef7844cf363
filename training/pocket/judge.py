"""Stage ``judge``: the classifier of an image's object, background and style, trained on renderings only.

Destroyed images (noise, smears, half objects, blends) have a uniform target, so that their confidence falls below the
threshold and the judge abstains ("cannot tell"). Images with other seeds calibrate the thresholds and measure the error
rates.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from common import ALL_SCENES, Checkpoint, device, random_scene, render, save_json, step_rng, to_tensor, train
from destroyed_images import DESTRUCTIONS, blurred, destroy, noisy
from efface.detectors.pocket_judge import HEADS, Judge, JudgeNet, head_classes
from efface.pocket_world import Scene, load_world

WIDTHS = (32, 64, 128, 192)
DESTROYED_SHARE = 0.25
VERSION = 1


def batch_of(rng: np.random.Generator, size: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns images and soft targets by head: renderings (half lightly blurred or noisy), then destroyed images."""
    classes = head_classes(load_world())
    num_destroyed = int(size * DESTROYED_SHARE)
    scenes = [random_scene(rng, ALL_SCENES) for _ in range(size - num_destroyed)]
    images = to_tensor(render(scenes, rng))
    quarter = len(scenes) // 4
    images[:quarter] = blurred(images[:quarter], float(rng.uniform(0.3, 1.0)))
    images[quarter : 2 * quarter] = noisy(images[quarter : 2 * quarter], float(rng.uniform(0.01, 0.08)), rng)
    destroyed = torch.stack([destroy(DESTRUCTIONS[i % len(DESTRUCTIONS)], rng) for i in range(num_destroyed)])
    targets = {}
    for head in HEADS:
        names = classes[head]
        known = torch.nn.functional.one_hot(
            torch.tensor([names.index(getattr(s, head)) for s in scenes]), len(names)
        ).float()
        targets[head] = torch.cat([known, torch.full((num_destroyed, len(names)), 1 / len(names))])
    return torch.cat([images, destroyed]), targets


def judge_loss(logits: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
    """Returns the sum of the heads' cross-entropies.

    A half object still has a place and a style, so all destroyed images train only the object head to abstain. Noise
    trains the other heads too, with weight 0.1.
    """
    batch = len(targets["object"])
    num_destroyed = int(batch * DESTROYED_SHARE)
    first = batch - num_destroyed
    noise = [first + i for i in range(num_destroyed) if DESTRUCTIONS[i % len(DESTRUCTIONS)] == "noise"]
    loss = torch.zeros((), device=targets["object"].device)
    for head in HEADS:
        rows = slice(None) if head == "object" else slice(0, first)
        loss = loss + nn.functional.cross_entropy(logits[head][rows].float(), targets[head][rows])
        if head != "object":
            loss = loss + 0.1 * nn.functional.cross_entropy(logits[head][noise].float(), targets[head][noise])
    return loss


def run(out: Path, *, steps: int = 2600, batch: int = 96, lr: float = 2e-3, seed: int = 4, n: int = 4000) -> None:
    """Trains, calibrates and measures the judge, and saves it in ``out/judge``."""
    torch.manual_seed(seed)
    dev = device()
    net = JudgeNet(WIDTHS, head_classes(load_world())).to(dev)
    optimiser = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.1)

    def one_step(step: int) -> dict[str, float]:
        images, targets = batch_of(step_rng(seed, step), batch)
        with torch.autocast(dev.type, dtype=torch.bfloat16):
            logits = net(images.to(dev))
        loss = judge_loss(logits, {head: target.to(dev) for head, target in targets.items()})
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        intact = slice(0, batch - int(batch * DESTROYED_SHARE))
        is_correct = logits["object"][intact].argmax(-1).cpu() == targets["object"][intact].argmax(-1)
        return {"loss": loss.item(), "object": is_correct.float().mean().item()}

    checkpoint = Checkpoint(out / "run" / "judge", model=net, optimiser=optimiser, schedule=schedule)
    train("judge", steps, checkpoint, one_step)
    finish(net.cpu(), out, seed, n)
    checkpoint.history.write(out / "run" / "judge" / "log.json", steps=steps, batch=batch, seed=seed)


def render_samples(rng: np.random.Generator, n: int) -> tuple[Tensor, list[Scene]]:
    """Samples n scenes and renders them."""
    scenes = [random_scene(rng, ALL_SCENES) for _ in range(n)]
    return to_tensor(render(scenes, rng)), scenes


def calibrate(judge: Judge, rng: np.random.Generator, n: int) -> dict[str, float]:
    """Returns each head's threshold: the confidence that 1 % of destroyed images exceed, at least 0.5.

    The heads for background and style use noise images only.
    """
    destroyed = {kind: torch.stack([destroy(kind, rng) for _ in range(n // 8)]) for kind in DESTRUCTIONS}
    noise = destroyed["noise"]
    images = {"object": torch.cat(list(destroyed.values())), "background": noise, "style": noise}
    limits = {}
    for head in HEADS:
        p = judge.probabilities(judge.features(images[head]))[head]
        if head == "object":  # "nothing" is correct for a destroyed image: it shows no object
            p = p[:, :-1]
        limits[head] = round(max(0.5, float(p.max(-1).values.quantile(0.99))), 4)
    return limits


def measure(judge: Judge, rng: np.random.Generator, n: int) -> dict[str, object]:
    """Measures the accuracy on new renderings and the share of destroyed images that the judge recognises.

    An abstention ("cannot tell") counts as an error in the accuracy.
    """
    images, scenes = render_samples(rng, n)
    table: dict[str, object] = {"n": n}
    variants = {"clean": images, "blurred": blurred(images, 0.8), "noisy": noisy(images, 0.05, rng)}
    for name, variant in variants.items():
        predicted = judge(variant)
        table[name] = {
            head: sum(a == getattr(s, head) for a, s in zip(getattr(predicted, head), scenes, strict=True)) / n
            for head in HEADS
        }
    for kind in DESTRUCTIONS:
        predicted = judge(torch.stack([destroy(kind, rng) for _ in range(n // 8)]))
        table[kind] = {
            "n": n // 8,
            "cannot tell or nothing": sum(o in ("cannot tell", "nothing") for o in predicted.object) / (n // 8),
        }
    return table


def finish(net: JudgeNet, out: Path, seed: int, n: int) -> None:
    """Calibrates and measures the judge on ``n`` new renderings each, and saves it."""
    folder = out / "judge"
    folder.mkdir(exist_ok=True)
    save_file(
        {k: v.half().contiguous() for k, v in net.state_dict().items() if v.is_floating_point()},
        folder / "model.safetensors",
    )
    config = {
        "id": "pocket-judge",
        "version": VERSION,
        "widths": list(WIDTHS),
        "licence": "Apache-2.0",
        "thresholds": dict.fromkeys(HEADS, 0.0),
    }
    save_json(folder / "config.json", config)
    config["thresholds"] = calibrate(Judge.load(folder), step_rng(seed, 2 * 10**6), n)
    save_json(folder / "config.json", config)
    config["measured"] = measure(Judge.load(folder), step_rng(seed, 3 * 10**6), n)
    save_json(folder / "config.json", config)
    print(config["thresholds"], config["measured"])
