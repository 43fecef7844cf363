"""Pairs of prompts written by a language model behind an endpoint in the form of OpenAI's chat completions."""

from __future__ import annotations

import json
import os
import urllib.request
from typing import Any

from efface.core.concept import Concept, find_mention
from efface.core.errors import EffaceError

from .ecgvf import PromptPair

KEY_VARIABLE = "EFFACE_ENDPOINT_KEY"
"""Environment variable with the endpoint's key, if it needs one."""
SECONDS = 120.0
INSTRUCTION = (
    "Write {count} pairs of prompts for a text-to-image model. The first prompt of a pair names {concept!r}; the "
    "second is the same prompt with something else in its place, which looks different. Vary place, light and "
    "wording. One pair per line, nothing else, in the form: first prompt | second prompt | what replaces it"
)


def endpoint_pairs(url: str, model: str, concept: Concept, head: str, count: int) -> tuple[PromptPair, ...]:
    """Asks the endpoint for pairs; lines in another form, and pairs without the concept, are left out.

    Args:
        url: the endpoint, such as ``http://localhost:8000/v1``; ``/chat/completions`` is added.
        model: name of the model at the endpoint.
        concept: the concept.
        head: head of the detector that a replacement's class belongs to.
        count: number of pairs.

    Raises:
        EffaceError: the endpoint cannot be reached, or answers with no pair.
    """
    instruction = INSTRUCTION.format(count=count, concept=concept.name)
    body = {"model": model, "messages": [{"role": "user", "content": instruction}], "temperature": 0.7}
    text = _answer(f"{url.rstrip('/')}/chat/completions", body)
    pairs = parse_pairs(text, concept, head)
    if not pairs:
        raise EffaceError(
            f"{url} wrote no pair in the form 'target | replacement | what replaces it': try another model"
        )
    return pairs[:count]


def parse_pairs(text: str, concept: Concept, head: str) -> tuple[PromptPair, ...]:
    """Reads lines ``target | replacement | what replaces it``; the first must name the concept, the second must not."""
    pairs = []
    for line in text.splitlines():
        parts = [part.strip(" \t\"'*-") for part in line.split("|")]
        if len(parts) != 3 or not all(parts):
            continue
        if find_mention(parts[0], concept.words) and not find_mention(parts[1], concept.words):
            pairs.append(PromptPair(parts[0], parts[1], {head: parts[2]}))
    return tuple(pairs)


def _answer(url: str, body: dict[str, Any]) -> str:
    """Sends a request; returns the text of the answer."""
    if not url.startswith(("http://", "https://")):
        raise EffaceError(f"{url!r} is no endpoint: give a URL such as http://localhost:8000/v1")
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(KEY_VARIABLE):
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            content = json.load(response)
        return str(content["choices"][0]["message"]["content"])
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise EffaceError(
            f"{url} does not answer as a chat endpoint ({reason}): check the URL, the model's name and {KEY_VARIABLE}"
        ) from error
