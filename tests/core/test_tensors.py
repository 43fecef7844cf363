"""The safetensors format, compared with the reference implementation."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from safetensors import numpy as reference
from safetensors import safe_open

from efface.core.errors import CorruptArtifactError, EffaceError
from efface.core.tensors import TensorBlob, TensorFile, write_tensors

DTYPES = st.sampled_from(["?", "u1", "i1", "<u2", "<i2", "<f2", "<u4", "<i4", "<f4", "<u8", "<i8", "<f8", ">f4"])
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@given(st.dictionaries(NAMES, ARRAYS, max_size=4))
def test_the_reference_implementation_reads_and_writes_the_same(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, NDArray[Any]]
) -> None:
    path = tmp_path_factory.mktemp("t") / "w.safetensors"
    write_tensors(path, arrays)
    theirs = reference.load_file(path)
    assert set(theirs) == set(arrays) == set(TensorFile(path))
    for name, array in arrays.items():
        ours = TensorFile(path)[name].numpy()
        assert ours.shape == array.shape
        assert ours.tobytes() == theirs[name].tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()
    reference.save_file({name: np.ascontiguousarray(array) for name, array in theirs.items()}, path)
    assert all(TensorFile(path)[name].numpy().tobytes() == array.tobytes() for name, array in theirs.items())


def test_bytes_do_not_depend_on_the_order_and_tensors_are_aligned(tmp_path: Path) -> None:
    a = {
        "b": np.arange(3, dtype="f2"),
        "a": np.arange(2, dtype="f4"),
        "c": np.arange(1, dtype="u1"),
        "d": np.zeros((0, 2)),
    }
    write_tensors(tmp_path / "1", a)
    write_tensors(tmp_path / "2", dict(reversed(a.items())))
    raw = (tmp_path / "1").read_bytes()
    assert raw == (tmp_path / "2").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    assert length % 8 == 0
    header = json.loads(raw[8 : 8 + length])
    assert header.pop("__metadata__") == {"format": "pt"}
    assert {name: entry["data_offsets"][0] for name, entry in header.items()} == {"d": 0, "a": 0, "b": 8, "c": 14}


def test_bfloat16_is_preserved_without_torch_and_into_torch(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 3.140625, np.inf], "f4")
    blob = TensorBlob("BF16", (2, 2), (values.view("u4") >> 16).astype("u2").tobytes())
    write_tensors(tmp_path / "w", {"x": blob})
    read = TensorFile(tmp_path / "w")
    assert (read["x"].dtype, read["x"].shape) == ("BF16", (2, 2))
    assert read["x"] == blob
    assert (read["x"].numpy() == values.reshape(2, 2)).all()
    assert read["x"].numpy().dtype == "f4"
    torch = pytest.importorskip("torch")
    with safe_open(tmp_path / "w", "pt") as file:
        tensor = file.get_tensor("x")
    assert tensor.dtype == torch.bfloat16
    assert tensor.flatten().tolist() == values.tolist()
    again = TensorBlob("BF16", tuple(tensor.shape), memoryview(tensor.flatten().view(torch.uint8).numpy()))
    assert again == blob


def test_blobs_are_checked() -> None:
    with pytest.raises(EffaceError, match="F13"):
        TensorBlob("F13", (1,), b"1234")
    with pytest.raises(EffaceError, match="shape"):
        TensorBlob("F32", (2,), b"1234")
    with pytest.raises(EffaceError, match="dtype"):
        TensorBlob.of(np.array(["a"], dtype=object))
    strided = np.arange(12, dtype="f4").reshape(3, 4).T
    assert (TensorBlob.of(strided).numpy() == strided).all()


def raw_file(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(begin: int, end: int, shape: list[int] | None = None, dtype: str = "U8") -> dict[str, object]:
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x01\x00",
        raw_file(b"not json"),
        raw_file([1]),
        raw_file({"a": entry(0, 4)}, b"123"),
        raw_file({"a": entry(0, 4)}, b"12345"),
        raw_file({"a": entry(0, 4), "b": entry(2, 6)}, b"123456"),
        raw_file({"a": entry(1, 4)}, b"1234"),
        raw_file({"a": entry(0, 4, [3])}, b"1234"),
        raw_file({"a": entry(0, 4, [-2, -2])}, b"1234"),
        raw_file({"a": {**entry(0, 4), "shape": [4.0]}}, b"1234"),
        raw_file({"a": entry(0, 4, dtype="F13")}, b"1234"),
        raw_file({"a": {"dtype": "U8"}}, b"1234"),
        raw_file({"a": 3}),
        pickle.dumps({"a": [1.0] * 100}),
    ],
)
def test_invalid_files_are_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "w").write_bytes(raw)
    with pytest.raises(CorruptArtifactError) as caught:
        TensorFile(tmp_path / "w")
    assert "\n" not in str(caught.value)
