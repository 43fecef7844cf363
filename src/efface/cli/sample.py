"""``efface sample``: images in a labelled grid."""

from __future__ import annotations

import os
import sys
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from efface.core.errors import EffaceError
from efface.core.policy import check_prompts
from efface.models.loading import ModelRef, load_model, name_of


def check_target(path: Path) -> None:
    """Refuse a target that cannot be written, before any work is done."""
    if path.suffix.lower() != ".png":
        raise EffaceError(f"{path} does not end in .png; the grid is a PNG image")
    parent = path.absolute().parent
    if not parent.is_dir():
        raise EffaceError(f"the folder {parent} does not exist; make it first or choose another --out")
    if not os.access(parent, os.W_OK):
        raise EffaceError(f"the folder {parent} cannot be written; choose another --out")


def draw_grid(
    prompts: Sequence[str], *, n: int, seed: int, out: Path, model: ModelRef, steps: int, guidance: float
) -> dict[str, str | int | float | list[str]]:
    """Draw ``n`` images of each prompt, seeds counting up from ``seed``, into one labelled grid; returns what was done."""
    check_prompts(prompts)
    check_target(out)
    name_of(model)
    from efface.reporting.image_grid import labelled_grid

    from .images import generate_with_progress, save_png

    seeds = [seed + i for i in range(n)] * len(prompts)
    every = [prompt for prompt in prompts for _ in range(n)]
    loaded = load_model(model)
    began = time.perf_counter()
    images = generate_with_progress(loaded, every, seeds, steps=steps, guidance=guidance)
    seconds = time.perf_counter() - began
    shown = [prompt or "(no prompt)" for prompt in every]
    labels = [f"seed {s}" if len(prompts) == 1 else f"{p} · {s}" for p, s in zip(shown, seeds, strict=True)]
    title = shown[0] if len(prompts) == 1 else f"{len(prompts)} prompts"
    subtitle = f"{loaded.name} · {steps} DDIM steps · guidance {guidance:g}"
    save_png(labelled_grid(images, labels, title=title, subtitle=subtitle), out)
    return {
        "out": str(out),
        "model": loaded.name,
        "prompts": list(prompts),
        "images": len(images),
        "seconds": seconds,
    }


def open_file(path: Path) -> None:
    """Show a file in the browser, where there is a screen to show it on."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    webbrowser.open(path.absolute().as_uri())
