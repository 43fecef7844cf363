"""TRCE's closed form, prompts and steering."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.spec import RunSpec
from efface.methods.trce import Config, _contrast_pairs, _redirection, trce
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.closed_form import EmbeddingCache, mean_caption_gram
from efface.ops.editing.apply import applied
from efface.ops.training.run import Run
from efface.ops.training.trajectory_pool import TrajectoryBatch, TrajectoryPool

RETAIN = tuple(f"a {w} {v}" for w in ("cat", "dog", "cod", "tag") for v in ("dot", "cat on", "nod", "by a dog"))
CONCEPTS = (Concept("gun", synonyms=("gung",), retain_prompts=RETAIN), Concept("dug", anchor="cat"))
FEW_STEPS = Config(
    num_templates=0,
    steps=3,
    trajectories_per_prompt=1,
    retain_trajectories=2,
    num_inference_steps=10,
    learning_rate=1e-3,
    retain_batch_size=2,
)


def erase(model: StableDiffusionModel, **settings: Any) -> tuple[Erasure, Run]:
    run = Run(spec=RunSpec("tiny", model.fingerprint(), "trce", {}, CONCEPTS))
    return trce(model, CONCEPTS, Config(**{**vars(FEW_STEPS), **settings}), run), run


def test_the_closed_form_is_the_published_formula_of_each_layer(model: StableDiffusionModel) -> None:
    """W' = (sum_i W a_i k_i^T / N + q W C)(sum_i k_i k_i^T / N + q C)^-1 at the first EOS, lambda = 0."""
    problem = _redirection(model, CONCEPTS, FEW_STEPS)
    update = problem.solve()
    cache, n = EmbeddingCache.for_model(model), 3
    rows = [("gun", ""), ("gung", ""), ("dug", "cat")]
    k, a = (torch.stack([cache.states(row[i])[cache.positions(row[i]).eos or 0] for row in rows], 1) for i in (0, 1))
    c = mean_caption_gram(model, cache, RETAIN)
    tolerance = 10 * problem.factor.condition * torch.finfo(torch.float64).eps
    for weight in model.parameter_group("cross_kv").parameters.values():
        left = weight @ a @ k.T / n + FEW_STEPS.preserve_weight * weight @ c
        expected = left @ torch.inverse(k @ k.T / n + FEW_STEPS.preserve_weight * c)
        assert float((weight @ update.matrix() - expected).norm() / expected.norm()) < tolerance
    assert tolerance < 1e-3
    remaining = (k + update.dense() @ k - a).norm() / (a - k).norm()
    assert float(remaining) < 0.1, "only preservation keeps the states from their anchors"


def test_too_few_captions_are_an_error(model: StableDiffusionModel) -> None:
    with pytest.raises(EffaceError, match="set ridge above 0, or preserve more states"):
        _redirection(model, (Concept("gun"),), FEW_STEPS).solve()


def test_the_erasure_is_a_closed_form_edit_and_replaced_weights(model: StableDiffusionModel) -> None:
    erasure, run = erase(model)
    assert [edit.op for edit in erasure.edits] == ["low_rank", "replace"]
    trained = {name for role in ("self_attn", "cross_q") for name in model.parameter_group(role).parameters}
    assert set(erasure.edits[1].targets) == trained
    matrix = _redirection(model, CONCEPTS, FEW_STEPS).solve().matrix()
    weights = model.parameter_group("attn_all").parameters
    originals = {name: weight.detach().clone() for name, weight in weights.items()}
    with applied(model, erasure):
        edited = {name: weight.detach().clone() for name, weight in weights.items()}
    for name in model.parameter_group("cross_kv").parameters:
        torch.testing.assert_close(edited[name], originals[name] @ matrix, rtol=1e-4, atol=1e-4)
    assert not any(torch.equal(edited[name], originals[name]) for name in trained)
    first = run.history["train"][0]
    assert set(first) == {"step", "loss", "contrast", "retain", "grad_norm"}
    assert first["retain"] < 1e-9, "the untrained student is the model after stage 1, up to float32"


@pytest.mark.parametrize(("early_only", "largest"), [(False, 10), (True, 5)])
def test_retain_samples_come_from_all_steps(
    model: StableDiffusionModel, monkeypatch: pytest.MonkeyPatch, early_only: bool, largest: int
) -> None:
    seen: set[int] = set()
    sample = TrajectoryPool.sample

    def spy(pool: TrajectoryPool, *args: Any, **kwargs: Any) -> TrajectoryBatch:
        batch = sample(pool, *args, **kwargs)
        if pool.prompts == ("",):
            seen.update(batch.step_index.tolist())
        return batch

    monkeypatch.setattr(TrajectoryPool, "sample", spy)
    erase(model, retain_early_steps=early_only, retain_batch_size=40)
    assert seen == set(range(largest))


def test_no_steps_leave_the_closed_form_alone(model: StableDiffusionModel) -> None:
    erasure, run = erase(model, steps=0)
    assert [edit.op for edit in erasure.edits] == ["low_rank"]
    assert set(run.history) == {"solve"}


def test_contrast_pairs() -> None:
    synonym, anchored = Concept("gun", synonyms=("owl",)), Concept("dog", anchor="cat")
    assert _contrast_pairs(synonym, 0) == [("a photo of a gun", ""), ("a photo of an owl", "")]
    assert _contrast_pairs(anchored, 0) == [("a photo of a dog", "a photo of a cat")]
    pairs = _contrast_pairs(anchored, 5)
    assert len(pairs) == 6
    assert all("dog" in prompt and "cat" in anchor_prompt for prompt, anchor_prompt in pairs)


def test_the_released_preset_sums_gradients(model: StableDiffusionModel) -> None:
    def gradient_norms(accumulate: bool) -> list[float]:
        settings = {"learning_rate": 1e-9, "retain_weight": 0.0, "hinge_margin": 100.0}
        run = erase(model, accumulate_gradients=accumulate, **settings)[1]
        return [row["grad_norm"] for row in run.history["train"]]

    cleared, summed = gradient_norms(False), gradient_norms(True)
    assert cleared[0] == pytest.approx(summed[0])
    assert summed[2] > 1.3 * cleared[2]
