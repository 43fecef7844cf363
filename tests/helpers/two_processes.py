"""Runs a command in two processes, as a launcher does: ``[generate ARTIFACT OUT] ARGUMENTS...``.

With ``generate``, each process first generates images of some samples and saves them. The environment variable ``FAIL``
makes one process fail while it generates, such as ``1:memory`` or ``1:bug``. ``CHUNK`` sets the images in a study's
chunk.
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.image_cache import ImageCache
from efface.benchmarks.image_generation import ImageGenerator
from efface.benchmarks.samples import EvalSample, Sampler
from efface.core.erasure import Erasure
from efface.distributed import env
from efface.models.loading import load_model
from efface.models.stable_diffusion import StableDiffusionModel
from efface.studies import resumable_stream

from .processes import redirect, start

num_generated = 0
original_trajectory = StableDiffusionModel.trajectory


def counting_trajectory(self, cond, *, seeds, **settings):
    """Counts the generated images, or fails as `FAIL` demands."""
    global num_generated
    rank, _, failure = os.environ.get("FAIL", "").partition(":")
    if rank == str(env.rank()):
        raise torch.OutOfMemoryError("CUDA out of memory.") if failure == "memory" else KeyError("a bug")
    num_generated += len(seeds)
    return original_trajectory(self, cond, seeds=seeds, **settings)


def samples() -> list[EvalSample]:
    return Benchmark.load("pocket-weapon").samples("dev", limit=3)


def generate_images(cache: Path, erasure: Erasure | None) -> torch.Tensor:
    """Images of twelve samples in batches of two; the cache may hold some of them."""
    model = load_model("pocket", device="cpu")
    generator = ImageGenerator(model, Sampler(num_inference_steps=2), ImageCache(cache), batch_size=2)
    return torch.cat([images for _, images in generator.generate(samples(), erasure)])


def run_process(environment: dict[str, str], arguments: tuple[object, ...], output: Path) -> None:
    """Runs the command in this process; its output and errors go to files."""
    redirect(output)
    os.environ.update(environment)
    torch.set_num_threads(1)
    resumable_stream.CHUNK_SIZE = int(os.environ.get("CHUNK", resumable_stream.CHUNK_SIZE))
    StableDiffusionModel.trajectory = counting_trajectory
    sys.argv = ["efface", *map(str, arguments)]
    if arguments[0] == "generate":
        out = Path(sys.argv[3])
        images = generate_images(out / f"cache-{env.rank()}.sqlite", Erasure.load(sys.argv[2]))
        tensors = {"images": images, "num_generated": torch.tensor(num_generated)}
        save_file(tensors, out / f"{env.rank()}.safetensors")
        del sys.argv[1:4]
    from efface.cli import main

    main()


@dataclass
class ProcessResult:
    """Exit code, output and errors of a process."""

    code: int | None
    out: str
    err: str


def run_two_processes(folder: Path, *arguments: object, **environment: str) -> list[ProcessResult]:
    """Runs the command in two processes."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
    common = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "EFFACE_CACHE": str(folder / "cache"),
        **environment,
    }
    outputs = [folder / f"output-{rank}" for rank in range(2)]
    processes = [
        start(run_process, {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, arguments, output)
        for rank, output in enumerate(outputs)
    ]
    for process in processes:
        process.join(240)
    return [
        ProcessResult(process.exitcode, Path(f"{output}.out").read_text(), Path(f"{output}.err").read_text())
        for process, output in zip(processes, outputs, strict=True)
    ]
