"""What tests run in several processes at once: ``[draw ARTIFACT OUT] ARGUMENTS...`` draws rows where it is told so, then runs the command.

``FAIL`` names a process and what goes wrong in it when it draws: ``1:memory`` or ``1:bug``. ``CHUNK``: images in a study's chunk.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from efface.benchmarks.benchmark import Benchmark, EvalSample, Sampler
from efface.benchmarks.image_cache import ImageCache
from efface.benchmarks.image_generation import ImageGenerator
from efface.core.erasure import Erasure
from efface.distributed import env
from efface.models.loading import load_model
from efface.models.stable_diffusion import StableDiffusionModel
from efface.studies import resumable_stream

drawn = 0
original = StableDiffusionModel.trajectory


def counting(self, cond, *, seeds, **how):
    global drawn
    who, _, what = os.environ.get("FAIL", "").partition(":")
    if who == str(env.rank()):
        raise torch.OutOfMemoryError("CUDA out of memory.") if what == "memory" else KeyError("a bug")
    drawn += len(seeds)
    return original(self, cond, seeds=seeds, **how)


def rows() -> list[EvalSample]:
    return Benchmark.load("pocket-weapon").rows("dev", limit=3)


def images(cache: Path, erasure: Erasure | None) -> torch.Tensor:
    """Twelve rows in batches of two, of which some may lie in the cache."""
    image_generator = ImageGenerator(
        load_model("pocket", device="cpu"), Sampler(num_inference_steps=2), ImageCache(cache), batch=2
    )
    return torch.cat([images for _, images in image_generator.generate(rows(), erasure)])


def run(environment: dict[str, str], arguments: tuple[object, ...], said: Path) -> None:
    """Does what the arguments say in this process, one of several; what it says goes to files."""
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(f"{said}.{name}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
    os.environ.update(environment)
    torch.set_num_threads(1)
    resumable_stream.SIZE = int(os.environ.get("CHUNK", resumable_stream.SIZE))
    StableDiffusionModel.trajectory = counting
    sys.argv = ["efface", *map(str, arguments)]
    if arguments[0] == "draw":
        out = Path(sys.argv[3])
        found = images(out / f"cache-{env.rank()}.sqlite", Erasure.load(sys.argv[2]))
        save_file({"images": found, "drawn": torch.tensor(drawn)}, out / f"{env.rank()}.safetensors")
        del sys.argv[1:4]
    from efface.cli import main

    main()


@dataclass
class End:
    """How a process ended."""

    code: int | None
    out: str
    err: str


def two(folder: Path, *arguments: object, **more: str) -> list[End]:
    """What two processes said, started as by a launcher; forked from one that has imported what takes long."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "EFFACE_CACHE": str(folder / "cache"),
        **more,
    }
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as the command line does, before torch is imported
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["efface.api", "efface.benchmarks.runner", "efface.models.pipeline"])
    started = [
        context.Process(
            target=run, args=({**common, "RANK": str(i), "LOCAL_RANK": str(i)}, arguments, folder / f"said-{i}")
        )
        for i in range(2)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(240)
    said = [[(folder / f"said-{i}.{name}").read_text() for name in ("out", "err")] for i in range(2)]
    return [End(process.exitcode, *text) for process, text in zip(started, said, strict=True)]
