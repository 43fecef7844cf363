"""Pictures a second: an evaluation against plain batched sampling with diffusers, in one run. ``python benchmarks/perf/evaluation.py``.

Both draw the same prompts with 20 DDIM steps at batch 16; the evaluation also judges them, scores them with CLIP, takes features and keeps
the pictures. Rounds alternate, and the ratio of the medians is what counts; seconds are this machine's.
"""

from __future__ import annotations

import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
import typer

from efface.benchmarks.benchmark import Benchmark, Row
from efface.benchmarks.collectors import Watch
from efface.benchmarks.image_cache import PictureCache
from efface.benchmarks.image_generation import Painter
from efface.benchmarks.runner import stream
from efface.metrics.detections import Target
from efface.models.loading import embedded_folder, load_model
from efface.ops.training.progress import Silent

BATCH = 16


def plain(rows: list[Row], steps: int, guidance: float) -> float:
    """Seconds that stock diffusers takes."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(embedded_folder("pocket"), dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    began = time.perf_counter()
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        seeds = [torch.Generator().manual_seed(row.seed) for row in part]
        pipe(
            [row.text for row in part],
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=seeds,
            output_type="pt",
        )
    return time.perf_counter() - began


def evaluated(rows: list[Row], benchmark: Benchmark) -> float:
    """Seconds that the same pictures take in an evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        painter = Painter(load_model("pocket"), benchmark.sampler, PictureCache(Path(folder) / "p.sqlite"), batch=BATCH)
        watch, target = Watch.of(benchmark), Target(benchmark.head, benchmark.classes)
        began = time.perf_counter()
        stream(painter, rows, None, watch, set(), target, Silent(), "")
        return time.perf_counter() - began


def main(pictures: int = 96, rounds: int = 3) -> None:
    """Measure and print JSON."""
    benchmark = Benchmark.load("pocket-weapon")
    rows = benchmark.rows("dev")[:pictures]
    how = benchmark.sampler
    plain(rows[:BATCH], how.steps, how.guidance)
    times = [(plain(rows, how.steps, how.guidance), evaluated(rows, benchmark)) for _ in range(rounds)]
    before, after = (statistics.median(t) for t in zip(*times, strict=True))
    print(json.dumps({
        "pictures": len(rows), "plain_pictures_a_second": len(rows) / before, "evaluation_pictures_a_second": len(rows) / after,
        "ratio": before / after, "threads": torch.get_num_threads(), "machine": platform.machine(), "torch": torch.__version__,
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
