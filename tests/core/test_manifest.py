"""The manifest: every kind of damage is detected, and unsafe manifests are refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.example_erasure import SPEC, make_erasure
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efface.core.erasure import Erasure, verify
from efface.core.errors import CorruptArtifactError, EffaceError, UnknownNameError
from efface.core.serialization import json_bytes


def assert_refused(folder: Path, match: str, kind: type[EffaceError] = CorruptArtifactError) -> None:
    with pytest.raises(kind, match=match) as caught:
        Erasure.load(folder)
    assert "\n" not in str(caught.value)


def test_the_manifest_records_run_cost_and_files(saved: Path) -> None:
    data = json.loads((saved / "erasure.json").read_text())
    assert data["method"] == "esd"
    assert data["config"] == {"lr": 1e-5, "ids": [1, 2]}
    assert data["seed"] == 7
    assert data["schema"] == 2
    assert data["base"] == SPEC.base
    assert data["run"] == SPEC.hash
    assert data["cost"] == {"seconds": 1.5, "peak_memory_bytes": None}
    weights = (saved / "weights.safetensors").read_bytes()
    assert data["files"]["weights.safetensors"] == {
        "bytes": len(weights),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_is_detected(saved: Path, data: st.DataObject) -> None:
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
def test_a_truncated_file_is_detected(saved: Path, name: str, left: float) -> None:
    path = saved / name
    good = path.read_bytes()
    path.write_bytes(good[:-1] if left == -1 else good[: int(len(good) * left)])
    (problem,) = verify(saved)
    assert (problem.file, problem.kind) == (name, "manifest" if name == "erasure.json" else "truncated")
    assert_refused(saved, "erasure.json|not as it was written")


def test_missing_and_extra_files(saved: Path) -> None:
    (saved / "evidence").mkdir()
    (saved / "evidence" / "result.json").write_text("{}")
    assert verify(saved) == []
    (saved / "log" / "x.py").write_text("")
    assert [(problem.file, problem.kind) for problem in verify(saved)] == [("log/x.py", "extra")]
    assert Erasure.load(saved) == make_erasure()
    (saved / "README.md").unlink()
    (saved / "weights.safetensors").unlink()
    assert [(problem.file, problem.kind) for problem in verify(saved)][:2] == [
        ("README.md", "missing"),
        ("weights.safetensors", "missing"),
    ]
    assert_refused(saved, r"README.md: missing \(and 1 more\)")
    with pytest.raises(CorruptArtifactError, match=r"weights\.safetensors is missing"):
        Erasure.load(saved, check=False)
    (saved / "erasure.json").unlink()
    assert_refused(saved, "holds no erasure", EffaceError)
    assert_refused(saved / "none", "holds no erasure", EffaceError)


def rewrite(folder: Path, change: dict[str, Any]) -> None:
    """Changes the manifest as an attacker would: with a matching hash."""
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
    assert_refused(saved, "not safe|pickle")
    assert verify(saved)[0].kind == "manifest"
    with pytest.raises(CorruptArtifactError):
        make_erasure().save(saved.parent / "new", files={name: b""})
    assert not (saved.parent / "new").exists()


def test_invalid_manifests_are_refused(saved: Path) -> None:
    files = json.loads((saved / "erasure.json").read_text())["files"]
    rewrite(saved, {"files": {"README.md": files["README.md"]}})
    assert_refused(saved, "does not list")
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
        ({"schema": 3}, "schema version 3", EffaceError),
        ({"schema": True}, "schema version True", EffaceError),
    ]
    for change, match, kind in cases:
        before = (saved / "erasure.json").read_bytes()
        rewrite(saved, change)
        assert_refused(saved, match, kind)
        (saved / "erasure.json").write_bytes(before)
    rewrite(saved, {"cost": None})
    assert Erasure.load(saved).cost is None


def test_weights_that_are_not_safetensors_are_refused(saved: Path) -> None:
    raw = b"\x80\x05cos\nsystem\n" * 20
    (saved / "weights.safetensors").write_bytes(raw)
    files = json.loads((saved / "erasure.json").read_text())["files"]
    rewrite(
        saved,
        {"files": {**files, "weights.safetensors": {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}}},
    )
    assert verify(saved) == []
    assert_refused(saved, "safetensors")
