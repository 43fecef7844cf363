"""The pool: its tuples are the frozen model's predictions at the scheduler's timesteps, sampled by a seed."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny import state_bytes, tiny_model

from efface.core.errors import EffaceError
from efface.core.seeds import derive_seed
from efface.models.protocol import Conditioning
from efface.ops.training.trajectory_pool import TrajectoryPool

PROMPTS = ("a cat", "a gun")


@pytest.fixture
def pool(tiny):
    return TrajectoryPool(tiny, PROMPTS, trajectories_per_prompt=2, num_inference_steps=5, seed=9, batch_size=3)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_tuples_reproduce_predictions_exactly(prediction):
    model = tiny_model(prediction=prediction)
    pool = TrajectoryPool(model, ["a gun"], trajectories_per_prompt=1, num_inference_steps=4, seed=3)
    batch = pool.sample(8, generator())
    empty = model.encode([""])
    for i in range(8):
        z, t = batch.z[i : i + 1], batch.t[i : i + 1]
        joint = model.predict(torch.cat([z, z]), int(t), Conditioning.cat([batch.cond[i : i + 1], empty]))
        assert torch.equal(joint.value[:1], batch.conditional[i : i + 1])
        assert torch.equal(joint.value[1:], batch.unconditional[i : i + 1])


def test_predictions_in_any_batch_agree(tiny, pool):
    batch = pool.sample(12, generator())
    conditional = tiny.predict(batch.z, batch.t, tiny.encode([PROMPTS[i] for i in batch.prompt_index]))
    torch.testing.assert_close(conditional.value, batch.conditional, rtol=1e-4, atol=1e-5)
    unconditional = tiny.predict(batch.z, batch.t, tiny.encode([""] * 12))
    torch.testing.assert_close(unconditional.value, batch.unconditional, rtol=1e-4, atol=1e-5)


def test_tuples_are_the_steps_of_a_trajectory(tiny):
    pool = TrajectoryPool(tiny, ["a gun"], trajectories_per_prompt=1, num_inference_steps=5, guidance_scale=3.0, seed=9)
    assert pool.timesteps.tolist() == tiny.scheduler.timesteps.tolist()
    batch = pool.sample(200, generator())
    assert set(batch.t.tolist()) == set(pool.timesteps.tolist())
    seeds = [derive_seed(9, "trajectory", 0)]
    points = list(tiny.trajectory(tiny.encode(["a gun"]), num_inference_steps=5, guidance_scale=3.0, seeds=seeds))
    at = {point.t: point.z[0] for point in points}
    assert all(torch.equal(z, at[t]) for z, t in zip(batch.z, batch.t.tolist(), strict=True))


def test_samples_follow_the_generator(pool):
    a, b = pool.sample(16, generator(1)), pool.sample(16, generator(1))
    assert torch.equal(a.z, b.z)
    assert not torch.equal(a.z, pool.sample(16, generator(2)).z)
    assert not any(tensor.requires_grad for tensor in (a.z, a.conditional, a.unconditional, a.cond.states))


def test_samples_can_be_restricted_to_timesteps(tiny, pool):
    high = int(pool.timesteps[1])
    batch = pool.sample(40, generator(), timestep_range=(high, 1000))
    assert set(batch.t.tolist()) == set(pool.timesteps[:2].tolist())
    prompts = [pool.prompts[i] for i in batch.prompt_index.tolist()]
    torch.testing.assert_close(batch.cond.states, tiny.encode(prompts).states, rtol=1e-4, atol=1e-5)
    with pytest.raises(EffaceError, match="no tuple"):
        pool.sample(1, generator(), timestep_range=(2000, 3000))
    with pytest.raises(EffaceError, match="at least one prompt"):
        TrajectoryPool(tiny, [])


def test_samples_are_uniform_over_prompts_and_timesteps(pool):
    batch = pool.sample(4000, generator())
    assert torch.bincount(batch.prompt_index).float().div(4000).sub(0.5).abs().max() < 0.05
    assert all(abs(float((batch.t == t).float().mean()) - 0.2) < 0.04 for t in pool.timesteps)


def test_nbytes_is_three_latents_a_tuple(pool):
    assert len(pool) == 2 * 2 * 5
    assert pool.nbytes == len(pool) * 12 * 4 * 8 * 8


def test_refresh_replaces_the_oldest(tiny, pool):
    before = pool.state()["trajectories"].clone()
    pool.refresh(1)
    after = pool.state()["trajectories"]
    assert torch.equal(before[1:], after[1:])
    assert not torch.equal(before[0], after[0])
    fresh = TrajectoryPool(tiny, PROMPTS, trajectories_per_prompt=3, num_inference_steps=5, seed=9, batch_size=1)
    torch.testing.assert_close(fresh.state()["trajectories"][4], after[0], rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_a_sampling_student_does_not_change_the_stored_predictions(tiny, pool):
    sites = tiny.parameter_group("cross_kv")
    params = sites.as_params({name: weight * 3 for name, weight in sites.parameters.items()})
    bytes_before, before = state_bytes(tiny), pool.state()["trajectories"].clone()
    pool.refresh(4, params=params)
    assert state_bytes(tiny) == bytes_before
    assert not torch.allclose(before[:, 0, -1], pool.state()["trajectories"][:, 0, -1], atol=1e-3)
    batch = pool.sample(10, generator())
    prediction = tiny.predict(batch.z, batch.t, batch.cond)
    torch.testing.assert_close(prediction.value, batch.conditional, rtol=1e-4, atol=1e-5)


def test_a_restored_state_gives_the_same_samples(tiny, pool):
    other = TrajectoryPool(tiny, PROMPTS, trajectories_per_prompt=2, num_inference_steps=5, seed=1)
    other.load_state(pool.state())
    assert torch.equal(other.sample(9, generator()).z, pool.sample(9, generator()).z)


def test_a_full_trajectory_has_the_order_of_its_steps(pool):
    trajectory = pool.full_trajectory(3)
    assert trajectory.t.tolist() == pool.timesteps.tolist()
    assert trajectory.prompt_index.tolist() == [1] * 5
    batch = pool.sample(12, generator())
    for i in range(12):
        trajectory = pool.full_trajectory(int(batch.trajectory_index[i]))
        assert torch.equal(trajectory.z[batch.step_index[i]], batch.z[i])
