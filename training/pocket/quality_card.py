"""What the measurements of the embedded image models share: CPU time, and the training card that holds them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from efface.core.io import atomic_write_json


def cpu_seconds(generate: Callable[[], Any], images: int) -> float:
    """Returns the CPU time per image in seconds, from the second of two runs.

    Unlike wall time, it hardly depends on other load of the machine; it is the sum of all threads.
    """
    for _ in range(2):
        started = time.process_time()
        generate()
        seconds = (time.process_time() - started) / images
    return round(seconds, 4)


def write_quality(folder: Path, quality: dict[str, Any]) -> None:
    """Prints measurements and writes them to the folder's ``training_card.json``."""
    path = folder / "training_card.json"
    card = json.loads(path.read_text(encoding="utf-8"))
    atomic_write_json(path, {**card, "quality": quality})
    for name, value in quality.items():
        print(name, value)
