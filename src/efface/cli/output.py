"""Output of the commands: text or JSON on standard output, and files in the browser."""

from __future__ import annotations

import json
import os
import sys
import webbrowser
from pathlib import Path
from typing import Any


def print_result(data: Any, text: str, as_json: bool) -> None:
    """Prints ``data`` as one line of JSON, or else ``text``."""
    print(json.dumps(data) if as_json else text)


def open_in_browser(path: Path) -> None:
    """Opens a file in the browser; does nothing on Linux without a display."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    webbrowser.open(path.absolute().as_uri())
