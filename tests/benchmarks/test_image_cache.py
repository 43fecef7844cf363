from __future__ import annotations

from pathlib import Path

import pytest
import torch

from efface.benchmarks.image_cache import ImageCache, default_cache_file


def image(seed: int, side: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (3, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_images_are_returned_bit_for_bit(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "a" / "p.sqlite")
    cache.put({"one": image(1), "two": image(2)})
    again = ImageCache(tmp_path / "a" / "p.sqlite").get(["two", "three", "one"])
    assert list(again) == ["two", "one"]
    assert torch.equal(again["one"], image(1))


def test_the_oldest_images_are_removed_first(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "p.sqlite", max_bytes=70 * 13_000)
    for i in range(160):
        cache.put({str(i): image(i)})
    cached = cache.get([str(i) for i in range(160)])
    assert "159" in cached
    assert "0" not in cached
    assert len(cached) < 80


def test_a_broken_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "p.sqlite"
    path.write_bytes(b"no database at all" * 100)
    cache = ImageCache(path)
    cache.put({"one": image(1)})
    assert "one" in cache.get(["one"])


def test_an_unusable_path_warns_and_caches_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="EFFACE_CACHE"):
        cache = ImageCache(tmp_path / "file" / "p.sqlite")
    cache.put({"one": image(1)})
    assert cache.get(["one"]) == {}


def test_default_cache_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path))
    assert default_cache_file() == tmp_path / "images.sqlite"
    monkeypatch.delenv("EFFACE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert default_cache_file() == tmp_path / "x" / "efface" / "images.sqlite"
