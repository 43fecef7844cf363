"""The options that say which model and how to load it, defined once for every command that loads one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Annotated, Any

import typer

from efface.models.loading import DTYPES, ModelRef


def as_ref(value: str | ModelRef) -> ModelRef:
    """What an option says; its default is one already."""
    return value if isinstance(value, ModelRef) else ModelRef(value)


Model = Annotated[
    ModelRef,
    typer.Option(
        parser=as_ref,
        metavar="TEXT",
        help='"pocket", a folder in diffusers layout, a .safetensors checkpoint, or a hub id such as org/name.',
    ),
]
Base = Annotated[
    ModelRef | None,
    typer.Option(
        "--model",
        parser=as_ref,
        metavar="TEXT",
        help="The base model, as for `efface erase`; by default the erasure's own.",
    ),
]
Target = Annotated[
    ModelRef,
    typer.Option(parser=as_ref, metavar="TEXT", help='The other model: "pocket-sibling", or any as for --model.'),
]
POCKET = ModelRef("pocket")
LOADING: dict[str, Any] = {
    "dtype": typer.Option("--dtype", help=f"To compute in: {', '.join(DTYPES)}; by default what suits the device."),
    "device": typer.Option(
        "--device", help="Where to compute: cpu, cuda, cuda:1, mps; by default the fastest at hand."
    ),
    "revision": typer.Option("--revision", help="Of a hub id: branch, tag or commit."),
    "config": typer.Option(
        "--model-config", help="Of a checkpoint: sd1, sd2, sd2-base, sdxl, or a folder in diffusers layout."
    ),
}


def model_options(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds `LOADING` to a command, after its option ``name``, which is then the whole `ModelRef`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)

        @wraps(command)
        def run(**given: Any) -> None:
            how = {option: given.pop(option) for option in LOADING}
            command(**{**given, name: replace(given[name] or ModelRef(None), **how)})

        parameters = []
        for parameter in own.parameters.values():
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            if parameter.name == name:
                more = {option: Annotated[str | None, said] for option, said in LOADING.items()}
                parameters += [
                    inspect.Parameter(o, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=a)
                    for o, a in more.items()
                ]
        run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate
