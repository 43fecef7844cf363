"""The erasure artifact: exact round trips, overwriting and composition."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.example_erasure import BF16, SPEC, make_erasure

from efface.core.composition import compose
from efface.core.concept import Concept
from efface.core.erasure import Edit, Erasure, verify
from efface.core.errors import BaseModelMismatchError, CorruptArtifactError, EffaceError, UnknownNameError
from efface.core.spec import RunSpec
from efface.core.tensors import TensorBlob


def test_round_trip(saved: Path) -> None:
    loaded = Erasure.load(saved)
    assert loaded == make_erasure()
    assert loaded.concepts == (Concept("weapon"),)
    assert loaded.tensor_names() == ("d", "t", "u")
    assert loaded.tensors_path == saved / "weights.safetensors"
    assert TensorBlob.of(loaded.tensors["u"]) == BF16
    assert (TensorBlob.of(loaded.tensors["t"]).numpy() == 1).all()
    assert (saved / "README.md").read_text() == "# Card\n"
    assert verify(saved) == []
    assert sorted(path.name for path in saved.iterdir()) == ["README.md", "erasure.json", "log", "weights.safetensors"]
    again = loaded.save(saved.parent / "again", "# Card\n", {"log/losses.json": b"[]"})
    for name in ("erasure.json", "weights.safetensors"):
        assert (again.tensors_path.parent / name).read_bytes() == (saved / name).read_bytes()


def test_an_erasure_without_tensors(tmp_path: Path) -> None:
    erasure = Erasure(SPEC, (Edit("sampler", "guidance"),)).save(tmp_path / "e")
    assert Erasure.load(tmp_path / "e") == erasure
    assert erasure.tensor_names() == ()
    with pytest.raises(EffaceError, match="save it first"):
        print(make_erasure().tensors_path)


def test_saving_replaces_only_erasures(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(EffaceError, match="already there"):
        make_erasure().save(saved)
    make_erasure(value=2.0).save(saved, overwrite=True)
    assert (TensorBlob.of(Erasure.load(saved).tensors["t"]).numpy() == 2).all()
    assert not (saved / "log").exists()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("precious")
    with pytest.raises(EffaceError, match="not an erasure"):
        make_erasure().save(tmp_path / "home", overwrite=True)
    assert (tmp_path / "home" / "thesis.txt").read_text() == "precious"
    with pytest.raises(EffaceError, match="finite"):
        replace(make_erasure(), effect={"after": float("inf")})


def test_edits_are_checked() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'replace'"):
        Edit("unet", "replac", {"a": "b"})
    with pytest.raises(EffaceError, match="nothing"):
        Edit("unet", "replace")
    with pytest.raises(EffaceError, match=r"\.up"):
        Edit("unet", "low_rank", {"w.down": "d"})
    with pytest.raises(EffaceError, match="component"):
        Edit("", "state")
    with pytest.raises(CorruptArtifactError, match="'none'"):
        Erasure(SPEC, (Edit("unet", "state", {"filter": "none"}),), {"t": np.zeros(1)})


def test_compose_keeps_the_order_and_every_tensor(tmp_path: Path) -> None:
    first, second = make_erasure().save(tmp_path / "1"), make_erasure("layer.1.weight", "santa", value=2.0)
    both = compose([first, second]).save(tmp_path / "2")
    assert [concept.name for concept in both.concepts] == ["weapon", "santa"]
    assert both.spec.base == SPEC.base
    assert [edit.op for edit in both.edits] == ["replace", "low_rank", "guidance"] * 2
    one, two = both.edits[0].tensors["layer.0.weight"], both.edits[3].tensors["layer.1.weight"]
    assert TensorBlob.of(both.tensors[one]).numpy()[0, 0] == 1
    assert TensorBlob.of(both.tensors[two]).numpy()[0, 0] == 2
    assert both.tensor_names() == ("d", "part1.t", "t", "u")
    assert RunSpec.from_dict(both.spec.config["parts"][1]) == second.spec
    three = compose([both, make_erasure("layer.2.weight", "cat", value=3.0)])
    assert TensorBlob.of(three.tensors[three.edits[-3].tensors["layer.2.weight"]]).numpy()[0, 0] == 3


def test_compose_refuses_conflicting_edits_and_other_bases() -> None:
    with pytest.raises(EffaceError, match=r"1 and 2 both write 'layer\.0\.weight'"):
        compose([make_erasure(), make_erasure(name="santa")])
    low = Erasure(SPEC, (Edit("unet", "low_rank", {"w.down": "d", "w.up": "u"}),), {"d": np.ones(1), "u": np.ones(1)})
    whole = Erasure(SPEC, (Edit("unet", "replace", {"w": "w"}),), {"w": np.ones(1)})
    with pytest.raises(EffaceError, match="both write 'w'"):
        compose([low, whole])
    other = Erasure(replace(SPEC, seed=SPEC.seed + 1), low.edits, low.tensors)
    assert len(compose([whole, low, other]).edits) == 3
    with pytest.raises(EffaceError, match="erasures 2 and 3 are the same"):
        compose([whole, low, low])
    other = replace(whole, spec=replace(SPEC, base={"unet": "cc"}))
    with pytest.raises(BaseModelMismatchError, match="another unet"):
        compose([low, other])
    assert (
        len(compose([low, replace(other, edits=low.edits, tensors=low.tensors)], same_base=lambda a, b: True).edits)
        == 2
    )
    with pytest.raises(EffaceError, match="nothing"):
        compose([])
