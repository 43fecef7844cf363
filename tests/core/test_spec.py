"""Run specifications: pinned hash, equality, refused values, folder names."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efface.core.concept import Concept
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.spec import RunSpec, package_versions


def spec(**changes: Any) -> RunSpec:
    fields: dict[str, Any] = {
        "model": "pocket",
        "base": {"unet": "ab"},
        "method": "esd",
        "config": {"steps": 200, "lr": 1e-5},
        "concepts": ("weapon",),
    }
    return RunSpec(**{**fields, "version": "0.1.0", **changes})


def test_the_hash_is_pinned() -> None:
    """A change here invalidates every cache. The value includes the concept's field names, such as retain_prompts."""
    pinned = "2fe2fb5afd0626b112e00eadf88cf5eb95655eab3fccc9d857d933dec16848a7"
    assert spec().hash == pinned
    assert spec().short_hash == pinned[:12]
    assert spec().folder_name == f"esd-weapon-{pinned[:12]}"


def test_equal_runs_have_equal_hashes_and_others_differ() -> None:
    @dataclass(frozen=True)
    class Config:
        steps: int = 200
        lr: float = 1e-5

    assert spec(config=Config()) == spec()
    assert spec(config={"lr": 1e-5, "steps": 200.0}).hash == spec().hash
    assert RunSpec.from_dict(spec().to_dict()) == spec()
    assert {spec(), spec()} == {spec()}
    changed: list[dict[str, Any]] = [
        {"seed": 1},
        {"model": "sd"},
        {"base": {"unet": "ac"}},
        {"method": "sage"},
        {"preset": "released"},
    ]
    changed += [
        {"version": "0.2.0"},
        {"config": {"steps": 201, "lr": 1e-5}},
        {"concepts": (Concept("weapon", anchor="cup"),)},
    ]
    assert len({spec(**change).hash for change in changed} | {spec().hash}) == len(changed) + 1
    bad: list[dict[str, Any]] = [
        {"seed": 1.5},
        {"seed": True},
        {"concepts": ()},
        {"method": None},
        {"config": {"lr": float("nan")}},
    ]
    for change in bad:
        with pytest.raises(EffaceError):
            spec(**change)
    with pytest.raises(UnknownNameError, match="did you mean 'seed'"):
        RunSpec.from_dict({**spec().to_dict(), "sead": 1})
    config = {"steps": 1}
    made = spec(config=config)
    config["steps"] = 2
    assert made.config == {"steps": 1}


@given(
    st.text(st.characters(codec="utf-8", categories=("L", "M", "N", "P", "S", "Zs"))).map(lambda text: f"a{text}"),
    st.text(st.characters(codec="utf-8")),
)
def test_folder_names_are_safe(name: str, method: str) -> None:
    made = spec(concepts=(name,), method=method).folder_name
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_")
    assert len(made) < 100
    assert len(spec(concepts=("a b " * 99,), method="m" * 500).folder_name) < 100
    assert not made.startswith("-")


def test_versions() -> None:
    assert package_versions(["numpy", "no-such-package"]) == {"python": sys.version.split()[0], "numpy": np.__version__}
