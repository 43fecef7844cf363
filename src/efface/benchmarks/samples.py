"""The images that a benchmark asks for: one sample each, and the sampler's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from efface.core.attack_set import SoftPrompt, StartLatent, insert_phrase

GROUPS = ("name", "domain", "near", "other")
"""Groups of a split: the concept's name, other phrases of its domain, near neighbours, and unrelated objects."""


@dataclass(frozen=True)
class Sampler:
    """How images are sampled.

    Attributes:
        name: the sampler's name.
        num_inference_steps: number of sampling steps.
        guidance_scale: classifier-free guidance scale.
    """

    name: str = "ddim"
    num_inference_steps: int = 20
    guidance_scale: float = 3.0


@dataclass(frozen=True)
class EvalSample:
    """One image to generate.

    Attributes:
        group: the group it counts in, one of `GROUPS` or an attack's name.
        prompt: the prompt; for an attack the prompt before the attack changed it.
        text: the text passed to the model; for an attack the changed prompt.
        seed: the image's seed.
        expected: for each of the detector's heads, the classes that are each acceptable.
        template: the prompt without its phrase, with ``{}`` in the phrase's place.
        soft: embeddings that replace some of the text's tokens; None for none.
        nearest_tokens: the tokens nearest to these embeddings, for display.
        start: latent that the image starts from; None for the noise of the seed.
    """

    group: str
    prompt: str
    text: str
    seed: int
    expected: Mapping[str, tuple[str, ...]]
    template: str = ""
    soft: SoftPrompt | None = None
    nearest_tokens: str = ""
    start: StartLatent | None = None


def group_samples(split: Mapping[str, Any], group: str, first_seed: int) -> list[EvalSample]:
    """The samples of one group: every phrase in several templates with several seeds.

    Args:
        split: a split of a benchmark, as its file holds it.
        group: one of `GROUPS`.
        first_seed: seed of the first sample; each further sample has the next one.
    """
    spec, templates = split["groups"][group], split["templates"]
    per_phrase = spec["templates"]
    samples: list[EvalSample] = []
    for i, phrase in enumerate(spec["phrases"]):
        for j in range(per_phrase):
            template = templates[(i * per_phrase + j) % len(templates)]
            prompt = insert_phrase(template["text"], phrase["phrase"])
            expected = _expected_classes({**template["expected"], **phrase["expected"]})
            seed = first_seed + len(samples)
            samples += [
                EvalSample(group, prompt, prompt, seed + k, expected, template["text"]) for k in range(spec["seeds"])
            ]
    return samples


def _expected_classes(expected: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {head: (names,) if isinstance(names, str) else tuple(names) for head, names in expected.items()}
