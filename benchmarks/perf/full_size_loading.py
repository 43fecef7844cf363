"""Times the loading of a model for `full_size_parts.py`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from clocks import Clock
from full_size_timing import number, ratio
from safetensors.torch import load_file
from torch import Tensor

from efface.models.loading import load_model
from efface.models.stable_diffusion import StableDiffusionModel


def time_loading(model: StableDiffusionModel, say: Callable[[str], None], tries: int = 3) -> dict[str, Any]:
    """Seconds of `load_model`, and of reading the same files' tensors; every tensor is read completely."""
    device = model.device
    clock = Clock(device)
    best = {"plain": float("inf"), "load_model": float("inf")}
    with tempfile.TemporaryDirectory() as folder:
        say("writing the model")
        model.pipe.save_pretrained(folder)
        files = sorted(Path(folder).rglob("*.safetensors"))
        size = sum(file.stat().st_size for file in files) / 1e9
        for index in range(tries):
            say(f"loading, {index + 1} of {tries}")
            for name in best:
                began = clock.now()
                if name == "plain":
                    touch(tensor for file in files for tensor in load_file(file, device=str(device)).values())
                else:
                    loaded = load_model(folder, device=device, dtype=model.unet.dtype)
                    touch(p for part in loaded.components.values() for p in part.parameters())
                    del loaded
                best[name] = min(best[name], clock.now() - began)
    found: dict[str, Any] = {
        name: number(seconds, False, f"the fastest of {tries}, files in the cache") for name, seconds in best.items()
    }
    speed = {
        "value": size / best["load_model"],
        "how": "measured",
        "from": f"{size:.3g} GB in {best['load_model']:.3g} s",
    }
    return {
        **found,
        "files_gb": counted(size * 1e9),
        "gb_a_second": speed,
        "ratio_to_plain": ratio(found["load_model"], found["plain"]),
    }


def counted(size: float) -> dict[str, Any]:
    """A number of bytes known without measurement, in GB."""
    return {"value": size / 1e9, "how": "counted", "from": "bytes of the tensors or files"}


def touch(tensors: Iterable[Tensor]) -> None:
    """Read every value, so that memory maps are loaded from disk."""
    for tensor in tensors:
        tensor.detach().clone()
