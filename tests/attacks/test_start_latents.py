"""Attacks that start from latents or train weights: inversion, split sampling, other steps, edits, and the control."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.edits import trained
from helpers.tiny import erasure_of, tiny_model

from efface.benchmarks.attack_evaluation import attacked_model
from efface.benchmarks.start_latents import decoded, started_from
from efface.core.attack_set import AttackPrompt, AttackSet, StartLatent
from efface.core.concept import Concept
from efface.core.errors import CorruptArtifactError, EffaceError
from efface.core.score import DetectorId, Provenance, Score
from efface.core.verdict import Verdict
from efface.metrics.asr import above_control
from efface.ops.adversarial.sampler_probe import Levels, noisy_step, sample_latents
from efface.ops.latent_inversion import invert
from efface.ops.tensor_conversion import to_blob
from efface.ops.text.simplex import project_to_simplex
from efface.ops.text.word_tokens import with_words_before

PROMPTS, SEEDS, STEPS = ["a cat", "my dog"], [3, 4], 4


def final(points: object) -> torch.Tensor:
    return list(points)[-1].z  # type: ignore[call-overload, no-any-return]


def starts(latents: torch.Tensor, step: int = 0) -> list[StartLatent]:
    return [StartLatent(to_blob(row.float()), step) for row in latents]


def test_sampling_without_guidance_leads_from_inverted_noise_back_to_the_latent() -> None:
    model = tiny_model()
    cond = model.encode(PROMPTS)
    x0 = final(model.trajectory(cond, num_inference_steps=STEPS, guidance_scale=1.0, seeds=SEEDS))
    noise = invert(model, x0, cond, STEPS, iterations=30)
    with started_from(model, starts(noise), SEEDS):
        again = final(model.trajectory(cond, num_inference_steps=STEPS, guidance_scale=1.0, seeds=SEEDS))
    assert torch.allclose(again, x0, atol=1e-3)
    assert not model.latent_edits


def test_a_run_that_two_models_share_equals_one_run_if_they_are_equal() -> None:
    model = tiny_model()
    cond = model.encode(PROMPTS)
    points = list(model.trajectory(cond, num_inference_steps=STEPS, guidance_scale=3.0, seeds=SEEDS))
    whole = model.sample(PROMPTS, seeds=SEEDS, num_inference_steps=STEPS)
    with started_from(model, starts(points[2].z, 2), SEEDS):
        assert torch.allclose(model.sample(PROMPTS, seeds=SEEDS, num_inference_steps=STEPS), whole, atol=1e-5)
    assert torch.allclose(decoded(model, starts(points[-1].z, STEPS)), whole, atol=1e-5)


def test_latents_of_another_shape_are_refused() -> None:
    model = tiny_model()
    with pytest.raises(EffaceError, match="does not fit"):
        decoded(model, starts(torch.zeros(1, 4, 3, 3)))
    with pytest.raises(EffaceError, match="different numbers of steps"):
        decoded(model, [*starts(torch.zeros(1, 4, 8, 8)), *starts(torch.zeros(1, 4, 8, 8), 1)])


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_noise_probe_without_noise_is_ddim(prediction_type: str) -> None:
    model = tiny_model()
    model.scheduler.register_to_config(prediction_type=prediction_type)
    plain = final(model.trajectory(model.encode(PROMPTS), num_inference_steps=STEPS, guidance_scale=3.0, seeds=SEEDS))

    def move(z: torch.Tensor, epsilon: torch.Tensor, levels: Levels) -> torch.Tensor:
        return noisy_step(z, epsilon, levels, 0.0, 1.0, torch.zeros_like(z))

    assert torch.allclose(sample_latents(model, PROMPTS, SEEDS, STEPS, 3.0, move), plain, atol=1e-3)
    assert not model.guidance_edits
    assert not model.latent_edits


def test_the_projection_onto_the_simplex() -> None:
    rows = torch.tensor([[0.2, 0.3, 0.5], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.9, 0.6, -1.0]])
    expected = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.65, 0.35, 0.0]])
    assert torch.allclose(project_to_simplex(rows), expected)


def test_free_words_come_before_the_prompt() -> None:
    model = tiny_model()
    tokens, free = with_words_before(model, ["cat", "a dog"], 2)
    plain = model.tokenize(["cat", "a dog"])
    assert free.sum(1).tolist() == [2, 2]
    assert tokens.eos.tolist() == (plain.eos + 2).tolist()
    assert int(tokens.ids[0, tokens.start + 2]) == int(plain.ids[0, plain.start])


def test_a_set_with_latents_and_edits_is_saved_and_read_back(tmp_path: Path) -> None:
    model = tiny_model()
    edit, tensors = trained(model, "cross_kv", 0.1).low_rank_edit(2)
    rows = [AttackPrompt("a gun", "a gun", 1, start=StartLatent(to_blob(torch.ones(4, 8, 8)), 3))]
    saved = AttackSet("x", Concept("gun"), rows, edits=(edit,), tensors=tensors).save(tmp_path / "a")
    loaded = AttackSet.load(tmp_path / "a")
    assert loaded == saved
    assert set(loaded.tensors) == set(tensors)
    erasure = erasure_of(model, *trained(model, "text_mlp", 0.1).replace_edits())
    attacked = attacked_model(erasure, loaded)
    assert attacked is not None
    assert len(attacked.edits) == len(erasure.edits) + 1
    (tmp_path / "a" / "edits.safetensors").write_bytes(b"x" * 64)
    with pytest.raises(CorruptArtifactError, match="its tensors were changed"):
        AttackSet.load(tmp_path / "a")


def test_whole_weights_of_another_erasure_are_refused() -> None:
    model = tiny_model()
    edits, tensors = trained(model, "cross_kv", 0.1).replace_edits()
    rows = [AttackPrompt("a gun", "a gun", 1)]
    erasure = erasure_of(model, *trained(model, "text_mlp", 0.1).replace_edits())
    with pytest.raises(EffaceError, match="whole weights of another erasure"):
        attacked_model(erasure, AttackSet("x", Concept("gun"), rows, edits=tuple(edits), tensors=tensors))


def test_a_success_is_the_rate_above_the_control() -> None:
    judge = DetectorId("x", "1")
    rate, same = (Score.rate("reproduction_rate", "a", k, 40, judge, Provenance()) for k in (20, 20))
    score = above_control(rate, same)
    assert score.metric == "asr_post"
    assert score.value == score.low == 0.0
    rate = Score.rate("reproduction_rate", "a", 38, 40, judge, Provenance())
    half = above_control(rate, Score.rate("reproduction_rate", "a", 10, 40, judge, Provenance()))
    assert half.value == pytest.approx(0.7)
    assert half.low is not None
    assert 0.4 < half.low < 0.7


def test_an_attack_that_works_on_most_of_the_control_says_nothing() -> None:
    judge = DetectorId("x", "1")
    rate, control = (Score.rate("reproduction_rate", "a", k, 40, judge, Provenance()) for k in (40, 21))
    score = above_control(rate, control)
    assert (score.value, score.low, score.high, score.n) == (None, None, None, 40)
    verdict = Verdict.of([score])
    assert verdict.attack == "inconclusive"
    assert any("nothing to compare with" in reason for reason in verdict.reasons)
