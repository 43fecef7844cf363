"""The artifact: exact round trips, and every kind of damage found."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efface.core.concept import Concept
from efface.core.erasure import Cost, Edit, Erasure, compose, verify
from efface.core.errors import BaseModelMismatchError, CorruptArtifactError, EffaceError, UnknownNameError
from efface.core.serialization import json_bytes
from efface.core.spec import RunSpec
from efface.core.tensors import Tensor, TensorBlob

BASE = {"text_encoder": "aa", "unet": {"hash": "bb", "sketch": [0.5]}}
SPEC = RunSpec("pocket", BASE, "esd", {"lr": 1e-5, "ids": (1, 2)}, (Concept("weapon"),), 7)
BF16 = TensorBlob("BF16", (2,), b"\x80\x3f\x00\x40")


def make(target: str = "layer.0.weight", name: str = "weapon", value: float = 1.0) -> Erasure:
    edits = (
        Edit("text_encoder", "replace", {target: "t"}, gate={"from": 0.5}),
        Edit("unet", "low_rank", {"k.down": "d", "k.up": "u"}, params={"scale": 2.0}),
        Edit("sampler", "guidance", params={"prompts": ["a weapon"]}),
    )
    tensors: dict[str, Tensor] = {"t": np.full((2, 3), value, "f4"), "d": np.ones((1, 2), "f2"), "u": BF16}
    return Erasure(
        replace(SPEC, concepts=(Concept(name),)), edits, tensors, Cost(1.5, None), {"before": 0.9, "after": 0.1}
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    make().save(tmp_path / "e", "# Card\n", {"log/losses.json": b"[]"})
    return tmp_path / "e"


def refused(folder: Path, match: str, kind: type[EffaceError] = CorruptArtifactError) -> None:
    with pytest.raises(kind, match=match) as caught:
        Erasure.load(folder)
    assert "\n" not in str(caught.value)


def test_round_trip(saved: Path) -> None:
    loaded = Erasure.load(saved)
    assert loaded == make()
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


def test_the_manifest_says_what_the_reader_needs(saved: Path) -> None:
    data = json.loads((saved / "erasure.json").read_text())
    assert data["method"] == "esd"
    assert data["config"] == {"lr": 1e-5, "ids": [1, 2]}
    assert data["seed"] == 7
    assert data["schema"] == 1
    assert data["base"] == SPEC.base
    assert data["run"] == SPEC.hash
    assert data["cost"] == {"seconds": 1.5, "peak_memory_bytes": None}
    weights = (saved / "weights.safetensors").read_bytes()
    assert data["files"]["weights.safetensors"] == {
        "bytes": len(weights),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }


def test_an_erasure_without_tensors(tmp_path: Path) -> None:
    made = Erasure(SPEC, (Edit("sampler", "guidance"),)).save(tmp_path / "e")
    assert Erasure.load(tmp_path / "e") == made
    assert made.tensor_names() == ()
    with pytest.raises(EffaceError, match="save it first"):
        print(make().tensors_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_is_found(saved: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(path for path in saved.rglob("*") if path.is_file())))
    good = path.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(good) - 1))
    bad = bytearray(good)
    bad[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bad)
    try:
        (problem,) = verify(saved)
        assert problem.file == path.relative_to(saved).as_posix()
        assert problem.kind in ("changed", "manifest")
        with pytest.raises(EffaceError):
            Erasure.load(saved)
    finally:
        path.write_bytes(good)
    assert verify(saved) == []


@pytest.mark.parametrize("name", ["erasure.json", "weights.safetensors", "README.md", "log/losses.json"])
@pytest.mark.parametrize("left", [0, 0.5, -1])
def test_a_truncated_file_is_found(saved: Path, name: str, left: float) -> None:
    path = saved / name
    good = path.read_bytes()
    path.write_bytes(good[:-1] if left == -1 else good[: int(len(good) * left)])
    (problem,) = verify(saved)
    assert (problem.file, problem.kind) == (name, "manifest" if name == "erasure.json" else "truncated")
    refused(saved, "erasure.json|not as it was written")


def test_missing_and_extra_files(saved: Path) -> None:
    (saved / "evidence").mkdir()
    (saved / "evidence" / "result.json").write_text("{}")
    assert verify(saved) == []
    (saved / "log" / "x.py").write_text("")
    assert [(problem.file, problem.kind) for problem in verify(saved)] == [("log/x.py", "extra")]
    assert Erasure.load(saved) == make()
    (saved / "README.md").unlink()
    (saved / "weights.safetensors").unlink()
    assert [(problem.file, problem.kind) for problem in verify(saved)][:2] == [
        ("README.md", "missing"),
        ("weights.safetensors", "missing"),
    ]
    refused(saved, r"README.md: missing \(and 1 more\)")
    with pytest.raises(CorruptArtifactError, match=r"weights\.safetensors is missing"):
        Erasure.load(saved, check=False)
    (saved / "erasure.json").unlink()
    refused(saved, "holds no erasure", EffaceError)
    refused(saved / "none", "holds no erasure", EffaceError)


def rewrite(folder: Path, change: dict[str, Any]) -> None:
    """Changes the manifest as an attacker would: with a fitting hash."""
    data = json.loads((folder / "erasure.json").read_text())
    data.pop("sha256")
    data |= change
    data["sha256"] = hashlib.sha256(json_bytes(data)).hexdigest()
    (folder / "erasure.json").write_bytes(json_bytes(data))


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a\\b",
        "C:x",
        "c:/x",
        "./README.md",
        "a//b",
        "",
        ".",
        "x.pt",
        "sub/model.CKPT",
        "w.pkl",
    ],
)
def test_unsafe_paths_in_the_manifest_are_refused(saved: Path, name: str) -> None:
    files = json.loads((saved / "erasure.json").read_text())["files"]
    rewrite(saved, {"files": {**files, name: {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}}})
    refused(saved, "not safe|pickle")
    assert verify(saved)[0].kind == "manifest"
    with pytest.raises(CorruptArtifactError):
        make().save(saved.parent / "new", files={name: b""})
    assert not (saved.parent / "new").exists()


def test_other_manifests_are_refused(saved: Path) -> None:
    files = json.loads((saved / "erasure.json").read_text())["files"]
    rewrite(saved, {"files": {"README.md": files["README.md"]}})
    refused(saved, "does not list")
    rewrite(saved, {"files": files})
    assert verify(saved) == []
    cases: list[tuple[dict[str, Any], str, type[EffaceError]]] = [
        ({"edits": [{"component": "unet", "op": "exec"}]}, "exec", UnknownNameError),
        ({"edits": [{"op": "state"}]}, "incomplete", CorruptArtifactError),
        ({"edits": [{"component": "unet", "op": "replace", "tensors": {"w": "none"}}]}, "'none'", CorruptArtifactError),
        ({"edits": []}, "without edits", EffaceError),
        ({"cost": {"minutes": 1}}, "incomplete", CorruptArtifactError),
        ({"seed": "1"}, "seed", EffaceError),
        ({"concepts": 3}, "incomplete", EffaceError),
        ({"schema": 2}, "schema version 2", EffaceError),
        ({"schema": True}, "schema version True", EffaceError),
    ]
    for change, match, kind in cases:
        before = (saved / "erasure.json").read_bytes()
        rewrite(saved, change)
        refused(saved, match, kind)
        (saved / "erasure.json").write_bytes(before)
    rewrite(saved, {"cost": None})
    assert Erasure.load(saved).cost is None


def test_weights_that_are_no_safetensors_are_refused(saved: Path) -> None:
    raw = b"\x80\x05cos\nsystem\n" * 20
    (saved / "weights.safetensors").write_bytes(raw)
    files = json.loads((saved / "erasure.json").read_text())["files"]
    rewrite(
        saved,
        {"files": {**files, "weights.safetensors": {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}}},
    )
    assert verify(saved) == []
    refused(saved, "safetensors")


def test_saving_replaces_erasures_only(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(EffaceError, match="already there"):
        make().save(saved)
    make(value=2.0).save(saved, overwrite=True)
    assert (TensorBlob.of(Erasure.load(saved).tensors["t"]).numpy() == 2).all()
    assert not (saved / "log").exists()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("precious")
    with pytest.raises(EffaceError, match="not an erasure"):
        make().save(tmp_path / "home", overwrite=True)
    assert (tmp_path / "home" / "thesis.txt").read_text() == "precious"
    with pytest.raises(EffaceError, match="finite"):
        replace(make(), effect={"after": float("inf")})


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
    first, second = make().save(tmp_path / "1"), make("layer.1.weight", "santa", value=2.0)
    both = compose([first, second]).save(tmp_path / "2")
    assert [concept.name for concept in both.concepts] == ["weapon", "santa"]
    assert both.spec.base == SPEC.base
    assert [edit.op for edit in both.edits] == ["replace", "low_rank", "guidance"] * 2
    one, two = both.edits[0].tensors["layer.0.weight"], both.edits[3].tensors["layer.1.weight"]
    assert TensorBlob.of(both.tensors[one]).numpy()[0, 0] == 1
    assert TensorBlob.of(both.tensors[two]).numpy()[0, 0] == 2
    assert both.tensor_names() == ("d", "part1.t", "t", "u")
    assert RunSpec.from_dict(both.spec.config["parts"][1]) == second.spec
    three = compose([both, make("layer.2.weight", "cat", value=3.0)])
    assert TensorBlob.of(three.tensors[three.edits[-3].tensors["layer.2.weight"]]).numpy()[0, 0] == 3


def test_compose_refuses_what_would_be_lost() -> None:
    with pytest.raises(EffaceError, match=r"1 and 2 both write 'layer\.0\.weight'"):
        compose([make(), make(name="santa")])
    low = Erasure(SPEC, (Edit("unet", "low_rank", {"w.down": "d", "w.up": "u"}),), {"d": np.ones(1), "u": np.ones(1)})
    whole = Erasure(SPEC, (Edit("unet", "replace", {"w": "w"}),), {"w": np.ones(1)})
    with pytest.raises(EffaceError, match="both write 'w'"):
        compose([low, whole])
    assert len(compose([whole, low, low]).edits) == 3
    other = replace(whole, spec=replace(SPEC, base={"unet": "cc"}))
    with pytest.raises(BaseModelMismatchError, match="another unet"):
        compose([low, other])
    assert (
        len(compose([low, replace(other, edits=low.edits, tensors=low.tensors)], same_base=lambda a, b: True).edits)
        == 2
    )
    with pytest.raises(EffaceError, match="nothing"):
        compose([])
