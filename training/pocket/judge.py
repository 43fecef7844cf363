"""Stage ``judge``: the classifier that knows what an image shows, trained on renderings only.

Destroyed images (noise, smears, half objects, blends) are shown with a uniform target, so that they end below the
threshold of "cannot tell". Thresholds are calibrated, and error rates measured, on images with other seeds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from torch import Tensor, nn

from common import ALL_SCENES, Checkpoint, device, random_scene, render, save_json, step_rng, to_tensor, train
from efface.detectors.pocket_judge import HEADS, Judge, JudgeNet, head_classes
from efface.pocket_world import Scene, load_world
from scene_backgrounds import BACKGROUNDS, SIZE
from scene_styles import STYLES
from scenes import glyph_layers

WIDTHS = (32, 64, 128, 192)
DESTROYED_SHARE = 0.25
DESTRUCTIONS = ("noise", "smear", "half object", "blend")
VERSION = 1


def noisy(images: Tensor, sigma: float, rng: np.random.Generator) -> Tensor:
    """Add Gaussian noise."""
    noise = torch.from_numpy(rng.standard_normal(tuple(images.shape), dtype=np.float32))
    return (images + sigma * noise).clamp(0, 1)


def blurred(images: Tensor, radius: float) -> Tensor:
    """Gaussian blur of ``radius`` pixels."""
    arrays = (images.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    return to_tensor(
        np.stack([np.asarray(Image.fromarray(a).filter(ImageFilter.GaussianBlur(radius))) for a in arrays])
    )


def half_object(scene: Scene, rng: np.random.Generator) -> Tensor:
    """A scene whose object lacks a half."""
    image = np.asarray(BACKGROUNDS[scene.background](rng), dtype=np.float32) / 255
    colour, alpha, _ = glyph_layers(scene.object, int(rng.integers(46, 54)))
    mask = np.ones((SIZE, SIZE, 1), dtype=np.float32)
    axis, first = int(rng.integers(2)), bool(rng.integers(2))
    np.moveaxis(mask, axis, 0)[slice(0, 32) if first else slice(32, SIZE)] = 0
    image = image * (1 - alpha * mask) + colour * mask
    return to_tensor(np.clip(STYLES[scene.style](image) * 255, 0, 255).astype(np.uint8)[None])[0]


def destroy(kind: str, rng: np.random.Generator) -> Tensor:
    """One destroyed image ``(3, 64, 64)``."""
    scene, other = random_scene(rng, ALL_SCENES), random_scene(rng, ALL_SCENES)
    if kind == "half object":
        return half_object(ALL_SCENES[int(rng.integers(len(ALL_SCENES)))], rng)
    image = to_tensor(render([scene], rng))
    if kind == "noise":
        amount = float(rng.uniform(0.75, 1.0))
        base = torch.from_numpy(rng.random((1, 3, SIZE, SIZE), dtype=np.float32))
        smooth = torch.nn.functional.interpolate(
            base[..., :: 2 ** int(rng.integers(4)), :: 2 ** int(rng.integers(4))], size=(SIZE, SIZE)
        )
        return ((1 - amount) * image + amount * smooth)[0]
    if kind == "smear":
        return blurred(image, float(rng.uniform(6, 12)))[0]
    return (0.5 * image + 0.5 * to_tensor(render([other], rng)))[0]


def batch_of(rng: np.random.Generator, size: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Images and soft targets by head: renderings (half of them lightly blurred or noisy), then destroyed images."""
    classes = head_classes(load_world())
    broken = int(size * DESTROYED_SHARE)
    scenes = [random_scene(rng, ALL_SCENES) for _ in range(size - broken)]
    images = to_tensor(render(scenes, rng))
    quarter = len(scenes) // 4
    images[:quarter] = blurred(images[:quarter], float(rng.uniform(0.3, 1.0)))
    images[quarter : 2 * quarter] = noisy(images[quarter : 2 * quarter], float(rng.uniform(0.01, 0.08)), rng)
    bad = torch.stack([destroy(DESTRUCTIONS[i % len(DESTRUCTIONS)], rng) for i in range(broken)])
    targets = {}
    for head in HEADS:
        names = classes[head]
        known = torch.nn.functional.one_hot(
            torch.tensor([names.index(getattr(s, head)) for s in scenes]), len(names)
        ).float()
        targets[head] = torch.cat([known, torch.full((broken, len(names)), 1 / len(names))])
    return torch.cat([images, bad]), targets


def run(out: Path, *, steps: int = 2600, batch: int = 96, lr: float = 2e-3, seed: int = 4, n: int = 4000) -> None:
    """Train, calibrate and measure the judge into ``out/judge``."""
    torch.manual_seed(seed)
    dev = device()
    net = JudgeNet(WIDTHS, head_classes(load_world())).to(dev)
    optimiser = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.1)

    def one_step(step: int) -> dict[str, float]:
        images, targets = batch_of(step_rng(seed, step), batch)
        broken = int(batch * DESTROYED_SHARE)
        with torch.autocast(dev.type, dtype=torch.bfloat16):
            logits = net(images.to(dev))
        # A half object still has a place and a style: only the object head is told that it cannot tell.
        loss = torch.zeros((), device=dev)
        for head in HEADS:
            rows = slice(None) if head == "object" else slice(0, batch - broken)
            loss = loss + nn.functional.cross_entropy(logits[head][rows].float(), targets[head][rows].to(dev))
            if head != "object":
                bad = [batch - broken + i for i in range(broken) if DESTRUCTIONS[i % len(DESTRUCTIONS)] == "noise"]
                loss = loss + 0.1 * nn.functional.cross_entropy(logits[head][bad].float(), targets[head][bad].to(dev))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        right = (
            (logits["object"][: batch - broken].argmax(-1).cpu() == targets["object"][: batch - broken].argmax(-1))
            .float()
            .mean()
        )
        return {"loss": loss.item(), "object": right.item()}

    checkpoint = Checkpoint(out / "run" / "judge", model=net, optimiser=optimiser, schedule=schedule)
    train("judge", steps, checkpoint, one_step)
    finish(net.cpu(), out, seed, n)
    checkpoint.history.write(out / "run" / "judge" / "log.json", steps=steps, batch=batch, seed=seed)


def fresh(rng: np.random.Generator, n: int) -> tuple[Tensor, list[Scene]]:
    """``n`` fresh renderings and their scenes."""
    scenes = [random_scene(rng, ALL_SCENES) for _ in range(n)]
    return to_tensor(render(scenes, rng)), scenes


def calibrate(judge: Judge, rng: np.random.Generator, n: int) -> dict[str, float]:
    """The confidence, at least 0.5, that one destroyed image in a hundred still reaches; for places and styles, one noise image."""
    shown = {kind: torch.stack([destroy(kind, rng) for _ in range(n // 8)]) for kind in DESTRUCTIONS}
    broken = {"object": torch.cat(list(shown.values())), "background": shown["noise"], "style": shown["noise"]}
    limits = {}
    for head in HEADS:
        p = judge.probabilities(judge.features(broken[head]))[head]
        if head == "object":  # "nothing" is no false alarm: no object is what is there
            p = p[:, :-1]
        limits[head] = round(max(0.5, float(p.max(-1).values.quantile(0.99))), 4)
    return limits


def measure(judge: Judge, rng: np.random.Generator, n: int) -> dict[str, object]:
    """Accuracy ("cannot tell" counts as wrong) on fresh renderings, and the share of destroyed images recognised as such."""
    images, scenes = fresh(rng, n)
    table: dict[str, object] = {"n": n}
    for name, shown in {"clean": images, "blurred": blurred(images, 0.8), "noisy": noisy(images, 0.05, rng)}.items():
        seen = judge(shown)
        table[name] = {
            h: sum(a == getattr(s, h) for a, s in zip(getattr(seen, h), scenes, strict=True)) / n for h in HEADS
        }
    for kind in DESTRUCTIONS:
        seen = judge(torch.stack([destroy(kind, rng) for _ in range(n // 8)]))
        table[kind] = {
            "n": n // 8,
            "cannot tell or nothing": sum(o in ("cannot tell", "nothing") for o in seen.object) / (n // 8),
        }
    return table


def finish(net: JudgeNet, out: Path, seed: int, n: int) -> None:
    """Calibrate and measure on ``n`` fresh renderings each, and save."""
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
