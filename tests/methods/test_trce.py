"""TRCE's parts against what they are said to be, in float64 on a small model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny import tiny_model

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.core.spec import RunSpec
from efface.methods.trce import Config, contrast_pairs, early, hinge, redirection, trce
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.closed_form import EmbeddingCache, mean_caption
from efface.ops.editing.apply import applied
from efface.ops.training.run import Run
from efface.ops.training.running_gradients import RunningGradientSum
from efface.ops.training.trajectory_pool import TrajectoryPool

RETAIN = tuple(f"a {w} {v}" for w in ("cat", "dog", "cod", "tag") for v in ("dot", "cat on", "nod", "by a dog"))
CONCEPTS = (Concept("gun", synonyms=("gung",), retain_prompts=RETAIN), Concept("dug", anchor="cat"))
SMALL = Config(
    num_templates=0,
    steps=3,
    trajectories_per_prompt=1,
    retain_trajectories=2,
    num_inference_steps=10,
    learning_rate=1e-3,
    retain_batch_size=2,
)


@pytest.fixture(scope="module")
def model() -> StableDiffusionModel:
    """Layer norms with values of their own: with zero biases every Gram would be singular."""
    made = tiny_model(dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in made.text_encoder.named_parameters():
        if "final_layer_norm" in name:
            parameter.data.copy_(1 + 0.1 * torch.randn(parameter.shape, generator=generator))
    return made


def test_the_first_part_is_the_published_formula_of_each_layer(model: StableDiffusionModel) -> None:
    """W' = (sum_i W a_i k_i^T / N + q W C)(sum_i k_i k_i^T / N + q C)^-1 at the first end of text, lambda = 0."""
    problem = redirection(model, CONCEPTS, SMALL)
    e = problem.solve()
    bank, n = EmbeddingCache.of(model), 3
    rows = [("gun", ""), ("gung", ""), ("dug", "cat")]
    k, a = (torch.stack([bank.states(row[i])[bank.places(row[i]).eos or 0] for row in rows], 1) for i in (0, 1))
    c = mean_caption(model, bank, RETAIN)
    tolerance = 10 * problem.factor.condition * torch.finfo(torch.float64).eps
    for weight in model.parameter_group("cross_kv").parameters.values():
        left = weight @ a @ k.T / n + SMALL.preserve_weight * weight @ c
        expected = left @ torch.inverse(k @ k.T / n + SMALL.preserve_weight * c)
        edited = weight @ e.matrix()
        assert float((edited - expected).norm() / expected.norm()) < tolerance
    assert tolerance < 1e-3
    near = (k + e.dense() @ k - a).norm() / (a - k).norm()
    assert float(near) < 0.1, "pairs are met but for what is preserved"


def test_too_few_captions_say_what_to_do(model: StableDiffusionModel) -> None:
    with pytest.raises(EffaceError, match="set lambda above 0, or preserve more states"):
        redirection(model, (Concept("gun"),), SMALL).solve()


def test_the_artifact_is_both_parts(model: StableDiffusionModel) -> None:
    run = Run(spec=RunSpec("tiny", model.fingerprint(), "trce", {}, CONCEPTS))
    erasure = trce(model, CONCEPTS, SMALL, run)
    assert [edit.op for edit in erasure.edits] == ["low_rank", "replace"]
    trained = set(erasure.edits[1].targets)
    assert trained == set(model.parameter_group("self_attn").parameters) | set(
        model.parameter_group("cross_q").parameters
    )
    e = redirection(model, CONCEPTS, SMALL).solve()
    before = {n: w.detach().clone() for n, w in model.parameter_group("attn_all").parameters.items()}
    with applied(model, erasure):
        now = {n: w.detach().clone() for n, w in model.parameter_group("attn_all").parameters.items()}
    for name in model.parameter_group("cross_kv").parameters:
        torch.testing.assert_close(now[name], before[name] @ e.matrix(), rtol=1e-4, atol=1e-4)
    moved = {name for name in before if not torch.equal(now[name], before[name])}
    assert moved >= trained
    assert set(run.history) == {"solve", "train"}
    assert set(run.history["train"][0]) == {"step", "loss", "contrast", "keep", "grad_norm"}
    first = run.history["train"][0]
    assert first["keep"] < 1e-9, (
        "before the first step the student is the first part's model, up to the masters' float32"
    )


def test_early_steps(model: StableDiffusionModel) -> None:
    pool = TrajectoryPool(model, ["a gun"], runs=1, steps=10, seed=0)
    low, high = early(pool, 0.52)
    expected = pool.timesteps[:5].tolist()
    drawn = pool.sample(200, torch.Generator().manual_seed(0), band=(low, high))
    assert sorted(set(drawn.t.tolist()), reverse=True) == expected
    assert early(pool, 0.01) == (int(pool.timesteps[0]), int(pool.timesteps[0]) + 1)
    assert early(pool, 1.0)[0] == int(pool.timesteps[-1])


def test_the_hinge() -> None:
    prefer, reject = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    now = torch.stack([torch.full((1, 2, 2), 0.2), torch.full((1, 2, 2), 0.9)])
    expected = 3 * (0.81 - 0.01 + 0.05) / 2
    torch.testing.assert_close(hinge(now, prefer, reject, 3.0, 0.05), torch.tensor(expected))
    assert float(hinge(prefer, prefer, reject, 1.0, 0.01)) == 0
    torch.testing.assert_close(hinge(prefer, prefer, prefer, 1.0, 0.01), torch.tensor(0.01))


def test_prompts_of_the_second_part() -> None:
    assert contrast_pairs(Concept("gun", synonyms=("owl",)), 0) == [("a photo of a gun", ""), ("a photo of an owl", "")]
    assert contrast_pairs(Concept("dog", anchor="cat"), 0) == [("a photo of a dog", "a photo of a cat")]
    more = contrast_pairs(Concept("dog", anchor="cat"), 5)
    assert len(more) == 6
    assert all(("dog" in p) and ("cat" in a) for p, a in more)


def summed(folder: Path | None, steps: int, resume: bool = False) -> list[float]:
    """Plain descent with unit rate on a loss whose gradient is the step's number plus one."""
    run, weight = Run(folder=folder, checkpoint_every=2, key="abc", resume=resume), torch.zeros(1, requires_grad=True)
    gradients = RunningGradientSum({"weight": weight})
    for step in run.steps(6, {"weight": weight}, torch.optim.SGD([weight], 1.0), extra={"gradients": gradients}):
        if step.index == steps:
            raise KeyboardInterrupt
        step.backward((step.index + 1) * weight.sum())
        gradients.add()
        step.update()
    return weight.tolist()


def test_gradients_that_are_never_cleared(tmp_path: Path) -> None:
    whole = summed(None, 6)
    assert whole == [-(1 + 3 + 6 + 10 + 15 + 21)]
    with pytest.raises(KeyboardInterrupt):
        summed(tmp_path, 4)
    assert summed(tmp_path, 6, resume=True) == whole


def test_the_released_preset_sums_gradients(model: StableDiffusionModel) -> None:
    def norms(accumulate: bool) -> list[float]:
        run = Run(spec=RunSpec("tiny", model.fingerprint(), "trce", {}, CONCEPTS))
        config = Config(**{**vars(SMALL), "accumulate": accumulate, "lr": 1e-9, "keep": 0.0, "margin": 100.0})
        trce(model, CONCEPTS, config, run)
        return [row["grad_norm"] for row in run.history["train"]]

    plain, sums = norms(False), norms(True)
    assert plain[0] == pytest.approx(sums[0])
    assert sums[2] > 1.3 * plain[2]
