"""``efface serve``: a local page with images before and after erasures."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from efface.core.errors import EffaceError

from .app import app
from .model_options import Base, model_options
from .options import AllowBaseMismatch

HOST = "127.0.0.1"
Artifacts = Annotated[list[Path], typer.Argument(help="Folders of erasures of one base model.")]


@app.command()
@model_options("model")
def serve(
    artifacts: Artifacts,
    port: Annotated[int, typer.Option(min=1024, max=65535, help="Port of the page on this machine.")] = 7860,
    model: Base = None,
    allow_base_mismatch: AllowBaseMismatch = False,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Show a local page: type a prompt, see its images before and after erasures, with verdicts and saved attacks."""
    if find_spec("gradio") is None:
        raise EffaceError("`efface serve` needs Gradio, which is not installed: pip install 'efface[web]'")
    check_port(port)
    from efface.web.page import launch
    from efface.web.studio import Studio

    studio = Studio(artifacts, model, allow_base_mismatch)
    print(f"http://{HOST}:{port} (this machine only; Ctrl-C stops it)", flush=True)
    launch(studio, HOST, port, open_page)


def check_port(port: int) -> None:
    """Raises `EffaceError` if another program listens on the port."""
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise EffaceError(f"port {port} is in use: choose another, such as --port {port + 1}")
