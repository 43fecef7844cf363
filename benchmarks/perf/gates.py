"""CPU time of an image with gated membranes on pocket, as a ratio to the plain model's.

Random membranes of rank 1 at every layer that SPM uses, each with a similarity gate: one, and ten of ten words. What
they add is timed alone, and each time is the least of many short ones, because other programs on a machine slow whole
images by more than gates do: the hooks of a pass with new prompts, whose strengths and merged weights are part of it,
those of later passes, and, where the rows of a batch have different strengths, the layers with and without membranes.
The states of the erased phrases are computed before. Usage: ``python benchmarks/perf/gates.py``, which writes a JSON
beside it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.spec import RunSpec
from efface.models.batch_rows import ALL_ON, BatchRows, announced_rows
from efface.models.conditioning import Conditioning
from efface.models.editable import EditableModel
from efface.models.loading import load_model
from efface.ops.editing.apply import applied
from efface.ops.tensor_conversion import to_blob

OUT = Path(__file__).with_suffix(".json")
WORDS = ("weapon", "cat", "dog", "owl", "tree", "car", "boat", "hat", "apple", "house")
STYLES = ("a photo", "a pencil sketch", "a mosaic", "a pop art print")
NOUNS = ("ball", "chair", "lamp", "fish", "robot", "bird", "guitar", "hammer", "castle", "bus", "pizza", "tent", "frog")
STEPS, REPEATS = 50, 25


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


def seconds(action: Callable[[], object]) -> float:
    """CPU seconds of an action."""
    start = time.process_time()
    action()
    return time.process_time() - start


def least(action: Callable[[], object]) -> float:
    """The least CPU seconds of an action."""
    return min(seconds(action) for _ in range(REPEATS))


def joint(model: EditableModel, cond: Conditioning) -> Conditioning:
    """The conditioning of a step with guidance."""
    return Conditioning.cat([cond, model.unconditional(len(cond.states))])


def image_seconds(model: EditableModel, prompts: Sequence[str]) -> float:
    """CPU seconds of a batch of images: text encoder, denoiser and decoder."""
    z, cond = model.initial_noise(range(len(prompts))), joint(model, model.encode(prompts))
    step = least(lambda: model.predict(torch.cat([z, z]), 500, cond))
    return STEPS * step + least(lambda: model.encode(prompts)) + least(lambda: model.decode(z))


@contextmanager
def hooks_alone(unet: Any) -> Iterator[None]:
    """Lets a call of the denoiser run its hooks and nothing else."""
    unet.forward = lambda *args, **kwargs: None
    try:
        yield
    finally:
        del unet.forward


def hook_seconds(model: EditableModel, batches: Sequence[Sequence[str]]) -> float:
    """CPU seconds of the denoiser's hooks in an image of new prompts."""
    unet: Any = model.components["unet"]
    first, later = [], []
    for cond in [model.encode(prompts) for prompts in batches]:
        states = joint(model, cond).states
        with hooks_alone(unet), announced_rows(unet, BatchRows(cond, (ALL_ON, ALL_ON))):
            first.append(seconds(lambda states=states: unet(encoder_hidden_states=states)))  # type: ignore[misc]
            later.append(least(lambda states=states: unet(encoder_hidden_states=states)))  # type: ignore[misc]
    return min(first[1:]) + (STEPS - 1) * min(later)


def layer_inputs(model: EditableModel, prompts: Sequence[str]) -> dict[nn.Module, Tensor]:
    """The inputs of the layers that get membranes, in one step."""
    names = {name.rpartition(".")[0] for name in model.parameter_group("attn_blocks").paths.values()}
    z, inputs = model.initial_noise(range(len(prompts))), dict[nn.Module, Tensor]()
    with ExitStack() as stack:
        for layer in (model.components["unet"].get_submodule(name) for name in sorted(names)):
            if isinstance(layer, nn.Linear | nn.Conv2d):
                hook = layer.register_forward_pre_hook(lambda own, args: inputs.__setitem__(own, args[0].clone()))
                stack.callback(hook.remove)
        model.predict(torch.cat([z, z]), 500, joint(model, model.encode(prompts)))
    return inputs


def layer_seconds(inputs: Mapping[nn.Module, Tensor]) -> float:
    """CPU seconds of layers with whatever is inserted there."""
    return sum(least(lambda layer=layer, x=x: layer(x)) for layer, x in inputs.items())  # type: ignore[misc]


@torch.no_grad()
def main(out: Annotated[Path, typer.Option(help="Output file.")] = OUT) -> None:
    """Measure and write the JSON."""
    torch.set_num_threads(1)
    model = load_model("pocket")
    erasures = [membranes(model, word, seed) for seed, word in enumerate(WORDS)]
    ratios: dict[str, float] = {}
    for size in (1, len(STYLES)):
        batches = [[f"{style} of a {noun}" for style in STYLES[:size]] for noun in NOUNS]
        inputs = layer_inputs(model, batches[0])
        plain, layers = image_seconds(model, batches[0]), layer_seconds(inputs)
        for count in (1, len(WORDS)):
            with ExitStack() as stack:
                for erasure in erasures[:count]:
                    stack.enter_context(applied(model, erasure))
                added = hook_seconds(model, batches)
                if size > 1:  # rows of different strengths: membranes run beside their layers
                    added += STEPS * (layer_seconds(inputs) - layers)
            ratios[f"{count} gated, {size} prompt{'s' * (size > 1)}"] = round(1 + added / plain, 3)
    out.write_text(json.dumps({"steps": STEPS, "ratios": ratios}, indent=2) + "\n")
    print(json.dumps(ratios))


if __name__ == "__main__":
    typer.run(main)
