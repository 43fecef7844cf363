"""ECGVF: pairs of prompts, their verification by images, and pairs from an endpoint."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from efface.api.ecgvf import write_ecgvf_benchmark
from efface.benchmarks import ecgvf
from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.benchmark_fields import benchmark_fields
from efface.benchmarks.benchmark_validation import validate_benchmark
from efface.benchmarks.pair_endpoint import endpoint_pairs, parse_pairs
from efface.core.concept import Concept
from efface.core.errors import EffaceError


@pytest.fixture(scope="module")
def weapon() -> Benchmark:
    return Benchmark.load("pocket-weapon")


@pytest.mark.parametrize("name", ["pocket-weapon", "pocket-santa", "pocket-style"])
def test_pairs_share_their_context(name: str) -> None:
    benchmark = Benchmark.load(name)
    pairs = ecgvf.template_pairs(benchmark, "test", 12)
    assert len(pairs) == len({pair.target for pair in pairs}) == 12
    for pair in pairs:
        assert pair.target != pair.replacement
        assert {*pair.target.split()} & {*pair.replacement.split()}
        assert pair.expected[benchmark.head] not in benchmark.classes


def verified(monkeypatch: pytest.MonkeyPatch, benchmark: Benchmark, shown: list[bool]) -> ecgvf.VerifiedPairs:
    """Verifies pairs with a detector that sees the concept in the images that ``shown`` names, in order."""
    pairs = ecgvf.template_pairs(benchmark, "test", len(shown) // 2)

    class Generator:
        def __init__(self, *_: Any) -> None: ...

        def generate(self, samples: list[Any], _erasure: None) -> Iterator[tuple[list[Any], Tensor]]:
            yield samples, torch.rand(len(samples), 3, 64, 64)

    def detector(images: Tensor) -> SimpleNamespace:
        labels = [benchmark.classes[0] if row else "cat" for row in shown]
        return SimpleNamespace(object=labels, background=["snow"] * len(images), style=["photo"] * len(images))

    detector.id, detector.thresholds = "fake@1", dict.fromkeys(("object", "background", "style"), 0.5)  # type: ignore[attr-defined]
    monkeypatch.setattr(ecgvf, "ImageGenerator", Generator)
    monkeypatch.setattr(ecgvf, "ImageCache", lambda: None)
    monkeypatch.setattr(ecgvf, "load_detector", lambda *_: detector)
    model: Any = SimpleNamespace(name="pocket", image_size=64, device="cpu")
    return ecgvf.verify_pairs(model, benchmark, pairs, 0)


def test_pairs_are_dropped_when_an_image_does_not_fit(monkeypatch: pytest.MonkeyPatch, weapon: Benchmark) -> None:
    found = verified(monkeypatch, weapon, [True, False, False, False, True, True, True, False])
    pairs = ecgvf.template_pairs(weapon, "test", 4)
    assert found.kept == (pairs[0], pairs[3])
    assert (found.missing_target, found.showing_replacement) == (1, 1)


def test_the_written_benchmark_holds_the_pairs_and_the_other_groups(weapon: Benchmark) -> None:
    pairs = {split: ecgvf.template_pairs(weapon, split, 5) for split in weapon.splits}
    written = ecgvf.ecgvf_benchmark(weapon, pairs)
    validate_benchmark(written)
    assert written.name == "ecgvf-pocket-weapon"
    assert Benchmark.from_dict(benchmark_fields(written)).hash == written.hash
    assert [s.prompt for s in written.samples(groups=("name",))] == [pair.target for pair in pairs["test"]]
    assert [s.prompt for s in written.samples(groups=("near",))] == [pair.replacement for pair in pairs["test"]]
    domain = weapon.samples(groups=("domain",))
    assert [s.prompt for s in written.samples(groups=("domain",))] == [s.prompt for s in domain]
    assert [s.expected for s in written.samples(groups=("domain",))] == [s.expected for s in domain]


def test_too_few_pairs_are_refused(weapon: Benchmark) -> None:
    with pytest.raises(EffaceError, match="only 1 pairs of the split test"):
        ecgvf.ecgvf_benchmark(weapon, {"test": ecgvf.template_pairs(weapon, "test", 1)})


ANSWER = """Here are pairs:
- a gun on a table | a cup on a table | cup
a photo of a dog | a photo of a cat | cat
a gun in the rain | a gun in the sun | sun
a rusty gun | a rusty key | key
"""


def test_lines_without_the_concept_or_in_another_form_are_left_out() -> None:
    pairs = parse_pairs(ANSWER, Concept("gun"), "object")
    assert [(pair.target, pair.replacement, pair.expected) for pair in pairs] == [
        ("a gun on a table", "a cup on a table", {"object": "cup"}),
        ("a rusty gun", "a rusty key", {"object": "key"}),
    ]


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[Any]]]:
    requests: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"choices": [{"message": {"content": ANSWER}}]}).encode())

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", requests
    server.shutdown()
    server.server_close()


def test_an_endpoint_is_asked_for_pairs(endpoint: tuple[str, list[Any]]) -> None:
    url, requests = endpoint
    assert len(endpoint_pairs(url, "writer", Concept("gun"), "object", 5)) == 2
    path, body = requests[0]
    assert (path, body["model"]) == ("/v1/chat/completions", "writer")
    assert "'gun'" in body["messages"][0]["content"]


def test_an_endpoint_that_writes_no_pair_or_does_not_answer_is_refused(endpoint: tuple[str, list[Any]]) -> None:
    with pytest.raises(EffaceError, match="wrote no pair"):
        endpoint_pairs(endpoint[0], "writer", Concept("castle"), "object", 5)
    with pytest.raises(EffaceError, match=r"cannot reach .*leave it out to take pairs from templates"):
        endpoint_pairs("http://127.0.0.1:9/v1", "writer", Concept("gun"), "object", 5)
    with pytest.raises(EffaceError, match="is no address: give one such as"):
        endpoint_pairs("localhost", "writer", Concept("gun"), "object", 5)


@pytest.mark.parametrize(
    ("concept", "options", "message"),
    [
        ("gun", {"out": "a.txt"}, "does not end in .yaml"),
        ("gun", {"count": 0}, "--count 0 asks for no pairs"),
        ("gun", {}, "no benchmark for 'gun' on pocket: name a YAML file with --benchmark"),
        ("gun", {"benchmark": "pocket-weapon"}, "pocket-weapon is for 'weapon', not for 'gun'"),
        ("weapon", {"endpoint": "http://localhost:1"}, "give --language-model NAME"),
    ],
)
def test_bad_input_is_refused_before_a_model_is_loaded(
    concept: str, options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("efface.api.ecgvf.load_model", None)
    out = tmp_path / options.pop("out", "a.yaml")
    with pytest.raises(EffaceError, match=message):
        write_ecgvf_benchmark(concept, out=out, **options)
    assert not out.exists()
