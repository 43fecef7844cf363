"""CPU time of an image with gated membranes on pocket, as a ratio to the plain model's in the same run.

Random membranes of rank 1 at every layer that SPM uses, each with a similarity gate: one, and ten of ten words. An
image of 50 steps is the time to the first prediction, which holds the strengths of a new prompt, 49 times the time of a
later step, and the time of the decoder. Each is a low quantile of many short trajectories, in which the cases take
turns, so that other programs on the machine hardly count. The states of the erased phrases are computed before. A batch
of different prompts costs more than one image, because only rows of equal strength are merged into the weights.
Usage: ``python benchmarks/perf/gates.py``, which writes a JSON beside it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import torch
import typer

from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.spec import RunSpec
from efface.models.editable import EditableModel
from efface.models.loading import load_model
from efface.ops.editing.apply import applied
from efface.ops.tensor_conversion import to_blob

OUT = Path(__file__).with_suffix(".json")
WORDS = ("weapon", "cat", "dog", "owl", "tree", "car", "boat", "hat", "apple", "house")
PROMPTS = ("a photo of a cat", "a photo of a ball", "a pencil sketch of a bird", "a photo of a weapon")
OTHER_PROMPTS = ("a photo of a chair", "a photo of a lamp", "a mosaic of a fish", "a photo of a robot")
STEPS, MEASURED_STEPS, REPEATS, QUANTILE = 50, 8, 16, 0.2


def membranes(model: EditableModel, word: str, seed: int) -> Erasure:
    """Random membranes that hardly change the image, gated by the similarity to a word."""
    generator = torch.Generator().manual_seed(seed)
    names, tensors = {}, {}
    for name, weight in model.parameter_group("attn_blocks").parameters.items():
        if weight.ndim > 1:
            layer = name.removesuffix(".weight")
            for end, shape in (("down", (1, *weight.shape[1:])), ("up", (len(weight), 1))):
                names[f"{layer}.{end}"] = f"{layer}.{end}"
                tensors[f"{layer}.{end}"] = to_blob(1e-3 * torch.randn(shape, generator=generator))
    edit = Edit("unet", "module", names, {"kind": "similarity", "phrases": [word]}, {"kind": "membrane"})
    spec = RunSpec(model.name, model.fingerprint(), "spm", {}, (Concept(word),), seed)
    return Erasure(spec, (edit,), tensors)


def seconds(model: EditableModel, batch_size: int) -> tuple[float, list[float], float]:
    """CPU seconds to the first prediction of a batch of new prompts, of each later step, and of the decoder."""
    seeds = range(batch_size)
    model.sample(OTHER_PROMPTS[:batch_size], seeds=seeds, num_inference_steps=1)
    times, latents = [time.process_time()], []
    cond = model.encode(PROMPTS[:batch_size])
    for point in model.trajectory(cond, num_inference_steps=MEASURED_STEPS, guidance_scale=3.0, seeds=seeds):
        times.append(time.process_time())
        latents.append(point.z)
    model.decode(latents[-1])
    times.append(time.process_time())
    first, *steps, _, last = (after - before for before, after in pairwise(times))
    return first, steps, last


def image_seconds(measured: list[tuple[float, list[float], float]]) -> float:
    """CPU seconds of an image of `STEPS` steps."""
    first, steps, last = zip(*measured, strict=True)
    step = quantile([value for own in steps for value in own])
    return quantile(first) + (STEPS - 1) * step + quantile(last)


def quantile(values: Sequence[float]) -> float:
    """The low quantile of times that stands for an undisturbed machine."""
    return float(torch.tensor(values, dtype=torch.float64).quantile(QUANTILE))


def main(out: Annotated[Path, typer.Option(help="Output file.")] = OUT) -> None:
    """Measure and write the JSON."""
    torch.set_num_threads(1)
    model = load_model("pocket")
    erasures = [membranes(model, word, seed) for seed, word in enumerate(WORDS)]
    ratios: dict[str, float] = {}
    for batch_size in (1, len(PROMPTS)):
        times: dict[int, list[tuple[float, list[float], float]]] = {0: [], 1: [], len(WORDS): []}
        seconds(model, batch_size)
        for _ in range(REPEATS):
            for count, measured in times.items():
                with ExitStack() as stack:
                    for erasure in erasures[:count]:
                        stack.enter_context(applied(model, erasure))
                    measured.append(seconds(model, batch_size))
        for count in (1, len(WORDS)):
            key = f"{count} gated, {batch_size} prompt{'s' * (batch_size > 1)}"
            ratios[key] = round(image_seconds(times[count]) / image_seconds(times[0]), 3)
    out.write_text(json.dumps({"steps": STEPS, "ratios": ratios}, indent=2) + "\n")
    print(json.dumps(ratios))


if __name__ == "__main__":
    typer.run(main)
