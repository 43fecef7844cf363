"""The options that select a model and how to load it, defined once for every command that loads one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Annotated, Any

import typer

from efface.models.model_ref import DTYPES, ModelRef


def as_model_ref(value: str | ModelRef) -> ModelRef:
    """Converts an option's text to a `ModelRef`; an option's default is one already."""
    return value if isinstance(value, ModelRef) else ModelRef(value)


Model = Annotated[
    ModelRef,
    typer.Option(
        parser=as_model_ref,
        metavar="TEXT",
        help="Model: one of `efface models`, a folder, a .safetensors checkpoint, or a hub id such as org/name.",
    ),
]
Base = Annotated[
    ModelRef | None,
    typer.Option(
        "--model",
        parser=as_model_ref,
        metavar="TEXT",
        help="Base model, in any form that `efface erase` accepts; by default the erasure's own.",
    ),
]
Target = Annotated[
    ModelRef,
    typer.Option(
        parser=as_model_ref,
        metavar="TEXT",
        help='Model to transfer to: "pocket-sibling", or any other form that `efface erase --model` accepts.',
    ),
]
POCKET = ModelRef("pocket")
LOADING: dict[str, Any] = {
    "dtype": typer.Option(
        "--dtype", help=f"Precision of the weights: {', '.join(DTYPES)}; by default the one that suits the device."
    ),
    "device": typer.Option(
        "--device",
        help="Device to compute on: cpu, cuda, cuda:1, mps, or auto (a language model on all); by default the fastest.",
    ),
    "revision": typer.Option("--revision", help="Branch, tag or commit of a hub id."),
    "config": typer.Option(
        "--model-config",
        help="Configuration of a checkpoint: sd1, sd2, sd2-base, sdxl, or a folder in diffusers layout.",
    ),
    "offload": typer.Option(
        "--offload",
        help="Keep text encoders, denoiser and autoencoder on the CPU while they are not needed, to save GPU memory.",
    ),
}
"""The options that say how to load a model, by the field of `ModelRef` that they fill."""


def model_options(parameter: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds the options of `LOADING` to a command, after the option ``parameter`` that receives the `ModelRef`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)

        @wraps(command)
        def run(**arguments: Any) -> None:
            loading = {option: arguments.pop(option) for option in LOADING}
            model = arguments[parameter] or ModelRef(None)
            command(**{**arguments, parameter: replace(model, **loading)})

        parameters = _insert_loading_options(signature, parameter)
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {item.name: item.annotation for item in parameters}
        return run

    return decorate


def _insert_loading_options(signature: inspect.Signature, parameter: str) -> list[inspect.Parameter]:
    """Lists a command's parameters as keyword parameters, with those of `LOADING` after ``parameter``."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    kinds: dict[str, Any] = dict.fromkeys(LOADING, str | None) | {"offload": bool}
    parameters = []
    for item in signature.parameters.values():
        parameters.append(item.replace(kind=keyword))
        if item.name == parameter:
            parameters += [
                inspect.Parameter(
                    name, keyword, default=getattr(ModelRef, name), annotation=Annotated[kinds[name], option]
                )
                for name, option in LOADING.items()
            ]
    return parameters
