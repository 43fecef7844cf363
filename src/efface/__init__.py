"""efface erases a concept from a generative model and proves that it is gone.

    >>> import efface
    >>> model = efface.load_model("pocket")
    >>> pictures = model.sample(["a photo of a cat in the snow"], seeds=[1])

Names are loaded when first used: ``import efface`` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "EffaceError": "core.errors",
    "Judge": "detectors.judge",
    "load_judge": "detectors.judge",
    "load_model": "models.load",
}

__all__ = ["EffaceError", "Judge", "__version__", "load_judge", "load_model"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"efface.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'efface' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
