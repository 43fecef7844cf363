"""efface erases a concept from a generative model and proves that it is gone.

    >>> import efface
    >>> model = efface.load_model("pocket")
    >>> pictures = model.sample(["a photo of a cat in the snow"], seeds=[1])

Names are loaded when first used: ``import efface`` is cheap.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "AttackSet": "core.attack_set",
    "Benchmark": "benchmarks.protocol",
    "Concept": "core.concept",
    "EffaceError": "core.errors",
    "Erasure": "core.erasure",
    "Judge": "detectors.judge",
    "Result": "core.result",
    "Score": "core.score",
    "Verdict": "core.verdict",
    "apply": "ops.apply",
    "applied": "ops.apply",
    "attack": "api",
    "compose": "core.erasure",
    "erase": "api",
    "evaluate": "api",
    "export": "api",
    "load_judge": "detectors.judge",
    "load_model": "models.load",
    "remove": "ops.apply",
    "report": "api",
    "revise": "api",
    "transfer": "api",
    "verify": "core.erasure",
}

__all__ = [
    "AttackSet",
    "Benchmark",
    "Concept",
    "EffaceError",
    "Erasure",
    "Judge",
    "Result",
    "Score",
    "Verdict",
    "__version__",
    "applied",
    "apply",
    "attack",
    "compose",
    "erase",
    "evaluate",
    "export",
    "load_judge",
    "load_model",
    "remove",
    "report",
    "revise",
    "transfer",
    "verify",
]


class _Verb(ModuleType):
    """A package with the name of a verb, such as `report`: called, it is the verb."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(import_module("efface.api"), self.__name__.rpartition(".")[2])(*args, **kwargs)


class _Package(ModuleType):
    """efface itself: importing the package `report` hides the verb of that name, which must stay callable."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _PUBLIC and isinstance(value, ModuleType):
            value.__class__ = _Verb
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"efface.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'efface' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
