"""Output of the commands: text or JSON on standard output, and files in the browser."""

from __future__ import annotations

import json
import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.text import Text


def print_result(data: Any, text: str | Text, as_json: bool) -> None:
    """Prints ``data`` as one line of JSON, or else ``text``."""
    if as_json:
        print(json.dumps(data))
    else:
        print_text(text)


def print_text(text: str | Text, stream: TextIO | None = None) -> None:
    """Prints text; a rich text has colours on a terminal and none elsewhere."""
    if isinstance(text, str):
        print(text, file=stream, flush=True)
        return
    from rich.console import Console

    Console(file=stream, highlight=False, soft_wrap=True).print(text)


def open_in_browser(path: Path) -> None:
    """Opens a file in the browser; does nothing on Linux without a display."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    webbrowser.open(path.absolute().as_uri())
