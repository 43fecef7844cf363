"""UCE, RECE and SPEED against transcriptions of the published formulas, layer by layer."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from efface.core.concept import Concept
from efface.core.config import build_config
from efface.core.registry import METHODS
from efface.core.spec import RunSpec
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.closed_form import EmbeddingCache, k_means
from efface.ops.editing.apply import applied
from efface.ops.training.run import Run

RETAIN = ("a cat", "dog on cat", "")
CONCEPTS = (Concept("gun", retain_prompts=RETAIN), Concept("dug", anchor="a cat nod", retain_prompts=("a cat",)))
EYE = torch.eye(32, dtype=torch.float64)


def erase(
    model: StableDiffusionModel, method: str, preset: str, concepts: tuple[Concept, ...] = CONCEPTS, **settings: Any
) -> list[tuple[Tensor, Tensor]]:
    """The weights of each cross-attention key and value before and after."""
    function: Any = METHODS.get(method)
    module = sys.modules[function.__module__]
    config = build_config(module.Config, module.PRESETS, preset, settings)
    weights = model.parameter_group("cross_kv").parameters
    originals = {name: weight.detach().clone() for name, weight in weights.items()}
    erasure = function(model, concepts, config, Run(spec=RunSpec("tiny", model.fingerprint(), method, {}, concepts)))
    with applied(model, erasure):
        return [(originals[name], weight.detach().clone()) for name, weight in weights.items()]


def solve(weight: Tensor, k: Tensor, a: Tensor, preserved: list[tuple[float, Tensor]], ridge: float) -> Tensor:
    """The published loop: rows of k are mapped to the targets W a, rows r with a weight to W r."""
    left, right = ridge * weight + weight @ a.T @ k, ridge * EYE + k.T @ k
    for scale, r in preserved:
        left, right = left + scale * weight @ r.T @ r, right + scale * r.T @ r
    return left @ torch.inverse(right)


def assert_near(found: Tensor, expected: Tensor, original: Tensor) -> None:
    assert float((expected - original).norm()) > 1e-3 * float(original.norm())
    assert float((found - expected).norm() / (expected - original).norm()) < 1e-5, "the edit is saved in float32"


def tails(cache: EmbeddingCache) -> tuple[Tensor, Tensor]:
    """Concepts and anchors from their last tokens on; an empty anchor from BOS on."""
    gun, dug, cat = cache.states("gun"), cache.states("dug"), cache.states("a cat nod")
    source_end = 16 - max(0, 5 - 3)  # dug: three tokens, the anchor: five
    return torch.cat([gun[1:16], dug[3:source_end]]), torch.cat([cache.states("")[0:15], cat[5:16]])


def test_uce_of_2023(model: StableDiffusionModel) -> None:
    cache = EmbeddingCache.for_model(model)
    k, a = tails(cache)
    preserved = [(1 / 3, cache.states(text)) for text in ("", "a cat", "dog on cat")]
    for original, edited in erase(model, "uce", "released_2023"):
        assert_near(edited, solve(original, k, a, preserved, 0.5), original)


def test_uce_of_2025_takes_bos_for_empty_texts(model: StableDiffusionModel) -> None:
    cache = EmbeddingCache.for_model(model)
    k = torch.stack([cache.states("gun")[1], cache.states("dug")[3]])
    a = torch.stack([cache.states("")[0], cache.states("a cat nod")[5]])
    r = torch.stack([cache.states("a cat")[2], cache.states("dog on cat")[4], cache.states("")[0]])
    for original, edited in erase(model, "uce", "released"):
        assert_near(edited, solve(original, k, a, [(1.0, r)], 0.5), original)


@pytest.mark.parametrize(("preset", "empty_weight"), [("released", 2), ("paper", 1)])
def test_rece_with_two_concepts(model: StableDiffusionModel, preset: str, empty_weight: int) -> None:
    """Each retain prompt counts 0.1 in an epoch; the released code counts the empty prompt once for each concept."""
    cache, mu = EmbeddingCache.for_model(model), 0.1
    k, a = tails(cache)
    retained = [cache.states(text) for text in ("a cat", "dog on cat")]
    layers = erase(model, "rece", preset, epochs=2, empty_as_bos=True)
    weights = [solve(w, k, a, [(1.0, r) for r in (cache.states(""), *retained)], 0.5) for w, _ in layers]
    concepts = torch.cat([cache.states("gun"), cache.states("dug")])
    anchors = torch.cat([cache.states(""), cache.states("a cat nod")])
    preserved = [(0.1, r) for r in retained] + [(0.1, cache.states(""))] * empty_weight
    for _ in range(2):
        response = sum((w.T @ w for w in weights), start=mu * EYE)
        to_original = sum((w.T @ o for w, (o, _) in zip(weights, layers, strict=True)), start=torch.zeros(()))
        derived = (torch.inverse(response) @ to_original @ concepts.T).T
        weights = [solve(w, derived, anchors, preserved, 0.1) for w in weights]
    for (original, edited), expected in zip(layers, weights, strict=True):
        assert_near(edited, expected, original)


def test_rece_maps_an_empty_anchor_to_bos_as_released(model: StableDiffusionModel) -> None:
    alone = (Concept("gun"),)
    released, paper = (erase(model, "rece", preset, alone)[0][1] for preset in ("released", "paper"))
    bos = erase(model, "rece", "paper", alone, empty_as_bos=True)[0][1]
    assert torch.equal(released, bos)
    assert not torch.allclose(released, paper, rtol=1e-3)


def test_speed_for_nudity_sums_over_the_tokens_after_bos(model: StableDiffusionModel) -> None:
    """Delta = W (S_at - S_tt) P [I - M N (N^T P M N + gamma I)^-1 N^T P] M, with the mean over concepts."""
    concepts = (Concept("gun"), Concept("dug"))
    settings = {"num_augmented": 0, "filter_retain": False, "eigenvalue_threshold": 1e-3}
    layers = erase(model, "speed", "nudity", concepts, **settings)
    cache = EmbeddingCache.for_model(model)
    empty = cache.states("")
    k, a = (torch.stack([cache.states(text)[1:] for text in texts]) for texts in (("gun", "dug"), ("", "")))
    s_tt, s_at = (torch.einsum("nti,ntj->nij", x, k).mean(0) for x in (k, a))
    run = Run(spec=RunSpec("tiny", model.fingerprint(), "speed", {}, concepts))
    n = torch.cat([empty[:1].T, k_means(empty[1:].T, 3, run.generator("clusters"))], 1)
    u, values, _ = torch.linalg.svd(empty[1:].T @ empty[1:] / 15)
    p = u[:, values < 1e-3] @ u[:, values < 1e-3].T
    m = torch.inverse(s_tt @ p + 0.7 * EYE)
    inner = torch.inverse(n.T @ p @ m @ n + 0.5 * torch.eye(n.shape[1], dtype=torch.float64))
    e = (s_at - s_tt) @ p @ (EYE - m @ n @ inner @ n.T @ p) @ m
    values_after = [(o, w) for o, w in layers if not torch.equal(o, w)]
    assert len(values_after) * 2 == len(layers), "the keys do not change"
    for original, edited in values_after:
        assert_near(edited, original + original @ e, original)


def test_speed_as_released_does_not_filter_without_augmentation(model: StableDiffusionModel) -> None:
    settings = {"num_augmented": 0, "eigenvalue_threshold": 1e-2}
    concepts = (Concept("gun", retain_prompts=tuple(f"a {w}" for w in ("cat", "dog", "nod", "dot", "cod"))),)
    released = erase(model, "speed", "released", concepts, **settings)
    filtered = erase(model, "speed", "released", concepts, filter_without_augmentation=True, **settings)
    unfiltered = erase(model, "speed", "released", concepts, filter_retain=False, **settings)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(released, unfiltered, strict=True))
    assert not all(torch.allclose(a, b) for (_, a), (_, b) in zip(released, filtered, strict=True))
