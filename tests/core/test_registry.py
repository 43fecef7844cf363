"""The registry: lists names and reads cards without importing; plugins; the cost of importing core."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import efface.core
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.method_card import MethodCard, read_card
from efface.core.registry import Registry

METHOD = """
import no_such_module
CARD = MethodCard(name="a", title="A", paper="P", arxiv="", families=("sd1",), trains="", needs_gradient=True,
                  needs_images=False, reconstruction=False, summary="s")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "fake_methods"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('listing must not import')")
    (folder / "_private.py").write_text("")
    (folder / "broken.py").write_text(METHOD)
    (folder / "empty.py").write_text("CARD = MethodCard(name=str(1))")
    info = tmp_path / "fake-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: fake\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[fake_methods]\nplugin = json:dumps\nhollow = json:nothing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "fake_methods"]:
        monkeypatch.delitem(sys.modules, name)
    return "fake_methods"


def test_the_registry_lists_without_importing(package: str) -> None:
    registry = Registry("method", package)
    assert registry.names() == ("broken", "empty", "hollow", "plugin")
    assert package not in sys.modules
    assert registry.targets()["broken"] == "fake_methods.broken:broken"
    assert registry.get("plugin") is json.dumps
    with pytest.raises(UnknownNameError, match="unknown method 'plugn': did you mean 'plugin'"):
        registry.get("plugn")
    with pytest.raises(EffaceError, match="has no 'nothing'"):
        registry.get("hollow")
    assert Registry("method", "no_such_package_here").names() == ()


def test_a_missing_package_and_a_name_registered_twice_are_reported(package: str, tmp_path: Path) -> None:
    (tmp_path / package / "__init__.py").write_text("")
    with pytest.raises(EffaceError, match="no_such_module"):
        Registry("method", package).get("broken")
    (tmp_path / package / "plugin.py").write_text("")
    with pytest.raises(EffaceError, match="twice"):
        Registry("method", package).names()


def test_cards_are_read_without_importing(package: str, tmp_path: Path) -> None:
    (tmp_path / package / "__init__.py").write_text("")
    card = Registry("method", package).card("broken")
    assert isinstance(card, MethodCard)
    assert card.needs_gradient is True
    assert card.families == ("sd1",)
    with pytest.raises(EffaceError, match="literal"):
        read_card(f"{package}.empty")
    with pytest.raises(EffaceError, match="no CARD"):
        read_card(f"{package}._private")


MODULES = sorted(path.stem for path in Path(efface.core.__path__[0]).glob("*.py") if path.stem != "__init__")


def test_importing_core_imports_nothing_heavy() -> None:
    code = f"""
import sys
for name in {MODULES!r}:
    __import__("efface.core." + name)
heavy = {{"torch", "diffusers", "transformers", "yaml", "rich", "scipy"}} & set(sys.modules)
assert not heavy, heavy
"""
    assert {"erasure", "result", "concept", "registry"} <= set(MODULES)
    subprocess.run([sys.executable, "-c", code], check=True)
    light = (
        "import sys, efface.core.registry, efface.core.concept, efface.core.seeds; assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", light], check=True)
