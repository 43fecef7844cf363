"""Asks a language model behind an OpenAI-compatible endpoint, which the user names; nothing else calls a network."""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from .errors import EffaceError

API_KEY_VARIABLE = "EFFACE_API_KEY"
"""Environment variable of the key, sent to the endpoint if it is set."""
TIMEOUT_SECONDS = 120


def check_model_named(language_model: str) -> None:
    """Raises `EffaceError` if no model is named for an endpoint."""
    if not language_model:
        raise EffaceError("an endpoint needs the name of its model: give --language-model NAME")


def ask(
    endpoint: str, language_model: str, question: str, *, instead: str, temperature: float = 0.0,
    timeout: float = TIMEOUT_SECONDS, images: Sequence[bytes] = (),
) -> str:  # fmt: skip
    """Sends one question to ``ENDPOINT/chat/completions`` and returns the text of the reply.

    Args:
        endpoint: the address up to the version, such as ``http://localhost:11434/v1``.
        language_model: name of the model at the endpoint.
        question: the user's message.
        instead: what happens without an endpoint, such as "read the model's own vocabulary", for the message.
        temperature: temperature of the reply.
        timeout: seconds to wait for the reply.
        images: PNG files that the question is about, for a vision-language model.

    Raises:
        EffaceError: not an address, an endpoint that cannot be reached or refuses, or a reply that is not a chat's.
    """
    if not endpoint.startswith(("http://", "https://")):
        raise EffaceError(f"{endpoint!r} is no address: give one such as http://localhost:11434/v1")
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(API_KEY_VARIABLE):
        headers["Authorization"] = f"Bearer {key}"
    message = {"role": "user", "content": _content(question, images)}
    body = json.dumps({"model": language_model, "messages": [message], "temperature": temperature}).encode()
    request = urllib.request.Request(f"{endpoint.rstrip('/')}/chat/completions", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return _text(json.load(response), endpoint)
    except urllib.error.HTTPError as error:
        raise EffaceError(
            f"{endpoint} answers {error.code} {error.reason}: check the address, the model's name {language_model!r} "
            f"and the key in {API_KEY_VARIABLE}"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise EffaceError(
            f"cannot reach {endpoint} ({reason}): start the server or correct the address, or leave it out to {instead}"
        ) from error


def _content(question: str, images: Sequence[bytes]) -> Any:
    """Returns the content of a message: text, or parts if there are images."""
    if not images:
        return question
    urls = [f"data:image/png;base64,{base64.b64encode(image).decode()}" for image in images]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"type": "text", "text": question}, *parts]


def _text(reply: Any, endpoint: str) -> str:
    """Returns the text of a chat's reply."""
    try:
        return str(reply["choices"][0]["message"]["content"])
    except (KeyError, IndexError, TypeError) as error:
        raise EffaceError(f"{endpoint} does not answer as a chat endpoint: check the address") from error


def parse_json_object(text: str) -> Any:
    """Returns the JSON object in a reply, which may have text or a code fence around it.

    Raises:
        EffaceError: the reply holds none.
    """
    try:
        return json.loads(text[text.index("{") : text.rindex("}") + 1])
    except ValueError as error:
        raise EffaceError(
            f"the language model's reply holds no JSON object: {text[:200]!r}; ask another model"
        ) from error
