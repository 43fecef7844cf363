"""Pairs of prompts written by a language model behind an endpoint in the form of OpenAI's chat completions."""

from __future__ import annotations

from efface.core.chat_endpoint import ask
from efface.core.concept import Concept, find_mention
from efface.core.errors import EffaceError

from .ecgvf import PromptPair

TEMPERATURE = 0.7
"""Pairs are wanted in many wordings."""
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
    text = ask(url, model, instruction, instead="take pairs from templates", temperature=TEMPERATURE)
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
