"""The readers of EraseEval's images: pocket's judge, an endpoint and BLIP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertTokenizerFast, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

from efface.benchmarks.benchmark import Benchmark
from efface.benchmarks.erase_eval_readers import DetectorPresence, load_readers, words_of
from efface.benchmarks.real_images import drawn_scenes
from efface.core.concept import find_mention
from efface.core.errors import EffaceError
from efface.detectors.endpoint_reader import EndpointReader
from efface.detectors.pocket_captions import PocketCaptioner

WEAPON = Benchmark.load("pocket-weapon")


def test_pockets_judge_describes_and_finds_the_drawn_scenes() -> None:
    samples = WEAPON.samples(groups=("domain", "other"), limit=6)
    images = drawn_scenes(samples)
    captions = PocketCaptioner.load().captions(images)
    shown = DetectorPresence(WEAPON).shows(images)
    named = [bool(find_mention(text, words_of(WEAPON))) for text in captions]
    weapons = [sample.group == "domain" for sample in samples]
    assert sum(a == b for a, b in zip(shown, weapons, strict=True)) >= 11
    assert named == shown
    black = DetectorPresence(WEAPON).shows(torch.zeros(1, 3, 64, 64))
    assert black == [False]


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[Any]]]:
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body["messages"][0]["content"])
            answer = "Yes, it does." if len(asked) == 1 else "maybe"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"choices": [{"message": {"content": answer}}]}).encode())

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_endpoint_reads_images(endpoint: tuple[str, list[Any]]) -> None:
    url, asked = endpoint
    reader = EndpointReader(url, "vlm", "Does this image show weapon?")
    assert reader.shows(torch.rand(1, 3, 8, 8)) == [True]
    text, image = asked[0]
    assert text["text"] == "Does this image show weapon? Answer yes or no."
    assert image["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    with pytest.raises(EffaceError, match="'maybe' instead of yes or no"):
        reader.shows(torch.rand(1, 3, 8, 8))


def test_a_blip_folder_describes_images(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "snow", "[DEC]"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    ids = {"bos_token_id": 7, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    text = {**sizes, "vocab_size": len(words), "max_position_embeddings": 64, "encoder_hidden_size": 16, **ids}
    config = BlipConfig(text_config=text, vision_config={**sizes, "image_size": 32, "patch_size": 16})
    BlipForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(tmp_path)
    captioner = load_readers(WEAPON, str(tmp_path), "detector", None).captioner
    captions = captioner.captions(torch.rand(2, 3, 20, 20))
    assert len(captions) == 2
    assert all(isinstance(text, str) for text in captions)
    assert captioner.detector.id == tmp_path.name
