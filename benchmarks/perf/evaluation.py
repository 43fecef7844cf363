"""Images a second: an evaluation against plain batched sampling with diffusers, in one run. ``python benchmarks/perf/evaluation.py``.

Both draw the same prompts with 20 DDIM steps at batch 16; the evaluation also judges them, scores them with CLIP, takes features and keeps
the images. Rounds alternate, and the ratio of the medians is what counts; seconds are this machine's.
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

from efface.benchmarks.benchmark import Benchmark, EvalSample
from efface.benchmarks.collectors import MetricCollector
from efface.benchmarks.image_cache import ImageCache
from efface.benchmarks.image_generation import ImageGenerator
from efface.benchmarks.runner import generate_and_score
from efface.metrics.detections import Expected
from efface.models.loading import bundled_folder, load_model
from efface.ops.training.progress import Silent

BATCH = 16


def plain(rows: list[EvalSample], steps: int, guidance: float) -> float:
    """Seconds that stock diffusers takes."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(bundled_folder("pocket"), dtype=torch.float32)
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


def evaluated(rows: list[EvalSample], benchmark: Benchmark) -> float:
    """Seconds that the same images take in an evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        image_generator = ImageGenerator(
            load_model("pocket"), benchmark.sampler, ImageCache(Path(folder) / "p.sqlite"), batch=BATCH
        )
        watch, target = MetricCollector.of(benchmark), Expected(benchmark.head, benchmark.classes)
        began = time.perf_counter()
        generate_and_score(image_generator, rows, None, watch, set(), target, Silent(), "")
        return time.perf_counter() - began


def main(images: int = 96, rounds: int = 3) -> None:
    """Measure and print JSON."""
    benchmark = Benchmark.load("pocket-weapon")
    rows = benchmark.rows("dev")[:images]
    how = benchmark.sampler
    plain(rows[:BATCH], how.num_inference_steps, how.guidance_scale)
    times = [
        (plain(rows, how.num_inference_steps, how.guidance_scale), evaluated(rows, benchmark)) for _ in range(rounds)
    ]
    before, after = (statistics.median(t) for t in zip(*times, strict=True))
    print(json.dumps({
        "images": len(rows), "plain_images_a_second": len(rows) / before, "evaluation_images_a_second": len(rows) / after,
        "ratio": before / after, "threads": torch.get_num_threads(), "machine": platform.machine(), "torch": torch.__version__,
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
