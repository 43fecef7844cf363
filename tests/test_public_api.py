"""The public names of efface: loaded lazily, complete, and typed for users of mypy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SNIPPET = """\
import efface

erasure = efface.erase("x", out="y")
reveal_type(erasure)
reveal_type(efface.evaluate("y", split="dev"))
reveal_type(efface.load_model("pocket"))
efface.export("y", "z", form="peft")
"""

MYPY_CONFIG = """\
[mypy-torch.*,diffusers.*,transformers.*,numpy.*,scipy.*,sklearn.*,PIL.*,rich.*]
follow_imports = skip
"""
"""Skips the analysis of other packages, which takes minutes; efface itself is analysed in full."""


def run_python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True)


def test_import_loads_no_torch_and_every_public_name_resolves(tmp_path: Path) -> None:
    code = """
import sys
import efface

assert "torch" not in sys.modules
assert {"erase", "attack", "evaluate", "transfer", "revise", "export", "report"} <= set(efface.__all__)
for name in efface.__all__:
    assert getattr(efface, name) is not None, name
assert callable(efface.export) and callable(efface.report)
"""
    done = run_python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_mypy_sees_the_types_of_the_installed_package(tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(SNIPPET)
    (tmp_path / "mypy.ini").write_text(MYPY_CONFIG)
    done = run_python("-m", "mypy", "--strict", "snippet.py", cwd=tmp_path)
    reported = [line for line in done.stdout.splitlines() if line.startswith("snippet.py")]
    assert reported[:4] == [
        'snippet.py:4: note: Revealed type is "efface.core.erasure.Erasure"',
        'snippet.py:5: note: Revealed type is "efface.core.result.Result"',
        'snippet.py:6: note: Revealed type is "efface.models.editable.EditableModel"',
        'snippet.py:7: error: Unexpected keyword argument "form" for "export"; did you mean "format"?  [call-arg]',
    ], done.stdout + done.stderr
    assert sum("error:" in line for line in reported) == 1
