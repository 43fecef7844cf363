"""Coreferents from a language model's endpoint and from the vocabulary, as files that CRCE reads."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import tiny_model

from efface.api import propose_coreferences
from efface.core.concept import Concept
from efface.core.coreferences import read_coreferences
from efface.core.errors import EffaceError

GUN = Concept("gun", retain_prompts=("a bow",))
WORDS = {"coreferents": {"rifle": 1.0, "bow": 0.2}, "retained": {"camera": 0.8}}


class Chat(BaseHTTPRequestHandler):
    """Replies with ``text``, and keeps the last request."""

    text = ""
    request: dict[str, Any] = {}  # noqa: RUF012

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Chat.request = {**body, "path": self.path, "key": self.headers["Authorization"]}
        reply = json.dumps({"choices": [{"message": {"content": Chat.text}}]}).encode()
        self.send_response(404 if body["model"] == "unknown" else 200)
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Chat)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def test_a_language_model_s_words_become_a_file(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFACE_API_KEY", "key")
    Chat.text = f"Here:\n```json\n{json.dumps(WORDS)}\n```"
    path = tmp_path / "words.yaml"
    with pytest.warns(UserWarning, match="bow"):
        found = propose_coreferences(GUN, out=path, endpoint=endpoint, language_model="small")
    assert found == read_coreferences(path, [GUN])
    assert found["gun"].coreferents == {"rifle": 1.0}
    assert Chat.request["path"] == "/v1/chat/completions"
    assert Chat.request["key"] == "Bearer key"
    assert '"gun" (object)' in Chat.request["messages"][0]["content"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("I cannot", "holds no JSON object"), ('{"coreferents": {"rifle": "high"}, "retained": {"x": 1}}', "'high'")],
)
def test_an_unusable_reply_is_refused(endpoint: str, tmp_path: Path, text: str, message: str) -> None:
    Chat.text = text
    with pytest.raises(EffaceError, match=message):
        propose_coreferences(GUN, out=tmp_path / "w.yaml", endpoint=endpoint, language_model="small")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("address", "name", "message"),
    [
        ("http://127.0.0.1:9/v1", "small", r"cannot reach http://127.0.0.1:9/v1 \(.*refused\): start the server"),
        ("localhost", "small", "is no address"),
        ("", "small", "give both --endpoint and --language-model"),
    ],
)
def test_an_endpoint_that_cannot_be_reached_is_refused(tmp_path: Path, address: str, name: str, message: str) -> None:
    with pytest.raises(EffaceError, match=message):
        propose_coreferences(GUN, out=tmp_path / "w.yaml", endpoint=address, language_model=name)


def test_an_endpoint_s_refusal_names_the_model(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(EffaceError, match="answers 404 Not Found: check the address, the model's name 'unknown'"):
        propose_coreferences(GUN, out=tmp_path / "w.yaml", endpoint=endpoint, language_model="unknown")


def test_the_vocabulary_gives_the_same_file_format(tmp_path: Path) -> None:
    path, gun = tmp_path / "words.yaml", Concept("gun")
    found = propose_coreferences(gun, out=path, model=tiny_model(), count=1, num_images=4)
    assert found == read_coreferences(path, [gun])
    assert {*found["gun"].coreferents, *found["gun"].retained} == {"cat", "dog"}
    with pytest.raises(EffaceError, match="--overwrite"):
        propose_coreferences(gun, out=path, model=tiny_model())
