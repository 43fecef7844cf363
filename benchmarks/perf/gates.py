"""CPU time of an image with gated membranes on pocket, as a ratio to the plain model's in the same run.

Random membranes of rank 1 at every layer that SPM uses, each with a similarity gate: one, and ten of ten words. Three
copies of the model, plain, with one and with ten, sample side by side and take turns at every step, so that other
programs on the machine slow all of them alike. An image of 50 steps is the time to the first prediction of new prompts,
whose strengths are part of it, 49 times the median of the later steps, and the decoder's time. The states of the erased
phrases are computed before. A batch of different prompts costs more than one image, because only rows of equal strength
are merged into the weights. Usage: ``python benchmarks/perf/gates.py``, which writes a JSON beside it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer

from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.spec import RunSpec
from efface.models.editable import EditableModel
from efface.models.loading import load_model
from efface.models.protocol import TrajectoryPoint
from efface.ops.editing.apply import applied
from efface.ops.tensor_conversion import to_blob

OUT = Path(__file__).with_suffix(".json")
WORDS = ("weapon", "cat", "dog", "owl", "tree", "car", "boat", "hat", "apple", "house")
STYLES = ("a photo", "a pencil sketch", "a mosaic", "a pop art print")
NOUNS = ("ball", "chair", "lamp", "fish", "robot", "bird", "guitar", "hammer", "castle", "bus", "pizza", "tent", "frog")
"""Every turn has prompts of its own; the first warms up."""
STEPS, MEASURED_STEPS = 50, 9


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


def step_seconds(models: Mapping[int, EditableModel], prompts: Sequence[str], turn: int) -> dict[int, list[float]]:
    """CPU seconds of the first and of each later prediction of every copy; the copies take turns at every step."""
    seeds, times = range(len(prompts)), {count: [0.0] * (MEASURED_STEPS + 1) for count in models}
    settings = {"num_inference_steps": MEASURED_STEPS, "guidance_scale": 3.0, "seeds": seeds}
    runs: dict[int, Iterator[TrajectoryPoint]] = {}
    for step in range(MEASURED_STEPS + 1):
        for count in [*models][(step + turn) % len(models) :] + [*models][: (step + turn) % len(models)]:
            start = time.process_time()
            if not step:
                runs[count] = models[count].trajectory(models[count].encode(prompts), **settings)
            next(runs[count])
            times[count][step] = time.process_time() - start
    return {count: values[:-1] for count, values in times.items()}  # the last yields the clean latent


def ratios(models: Mapping[int, EditableModel], batch_size: int) -> dict[str, float]:
    """Ratios of an image's time to the plain model's."""
    measured: list[dict[int, list[float]]] = []
    for turn, noun in enumerate(NOUNS):
        measured.append(step_seconds(models, [f"{style} of a {noun}" for style in STYLES[:batch_size]], turn))
    del measured[0]
    first = {count: median([times[count][0] for times in measured]) for count in models}
    later = {count: median([value for times in measured for value in times[count][1:]]) for count in models}
    latents, start = models[0].initial_noise(range(batch_size)), time.process_time()
    models[0].decode(latents)
    decoder = time.process_time() - start
    image = {count: first[count] + (STEPS - 1) * later[count] + decoder for count in models}
    plural = "s" * (batch_size > 1)
    return {
        f"{count} gated, {batch_size} prompt{plural}": round(image[count] / image[0], 3) for count in models if count
    }


def main(out: Annotated[Path, typer.Option(help="Output file.")] = OUT) -> None:
    """Measure and write the JSON."""
    torch.set_num_threads(1)
    models: dict[int, EditableModel] = {count: load_model("pocket") for count in (0, 1, len(WORDS))}
    with ExitStack() as stack:
        for count, model in models.items():
            for seed, word in enumerate(WORDS[:count]):
                stack.enter_context(applied(model, membranes(model, word, seed)))
        found = ratios(models, 1) | ratios(models, len(STYLES))
    out.write_text(json.dumps({"steps": STEPS, "ratios": found}, indent=2) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    typer.run(main)
