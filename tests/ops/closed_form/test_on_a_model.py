"""Closed-form edits on a small Stable Diffusion in float64: LoRA, filter and published weights are one and the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny import erasure_of, state_bytes, tiny_model
from torch import Tensor

from efface.core.concept import Concept
from efface.core.errors import EffaceError
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.closed_form import (
    EmbeddingCache,
    GramAccumulator,
    Pairs,
    PreservedStates,
    Problem,
    PromptFilter,
    Statistics,
    build_pairs,
    concept_prompts,
    diagnose,
    encoder_mark,
    to_edit,
)
from efface.ops.editing.apply import applied

CONCEPT = Concept("gun", retain_prompts=("a cat", "a dog"))


@pytest.fixture(scope="module")
def model() -> StableDiffusionModel:
    """Layer norms with values of their own: with zero biases every Gram would be singular."""
    made = tiny_model(dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in made.text_encoder.named_parameters():
        if "final_layer_norm" in name:
            parameter.data.copy_(1 + 0.1 * torch.randn(parameter.shape, generator=generator))
    return made


def problem(model: StableDiffusionModel, ridge: float = 0.5) -> Problem:
    bank = EmbeddingCache.of(model)
    pairs = build_pairs(bank, concept_prompts(CONCEPT, 0), "tail")
    return Problem(pairs, PreservedStates.of(bank, CONCEPT.retain_prompts, whole=True).preserve(0.7), ridge)


def drawn(model: StableDiffusionModel) -> Tensor:
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return model.predict(z, torch.tensor([3, 700]), model.encode(["a gun", "a cat"])).value


def test_lora_filter_and_published_weights_are_the_same(model: StableDiffusionModel) -> None:
    p = problem(model)
    solution, before, plain = p.solve(), state_bytes(model), drawn(model)
    lora, tensors = to_edit(model, solution, "cross_kv", dtype=torch.float64)
    erasure = erasure_of(model, [lora], tensors)
    with applied(model, erasure):
        fused = drawn(model)
    assert state_bytes(model) == before
    assert float((fused - plain).abs().max()) > 1e-3

    state, own = to_edit(model, solution, "cross_kv", "filter", torch.float64)
    with applied(model, erasure_of(model, [state], own)):
        torch.testing.assert_close(drawn(model), fused, rtol=0, atol=1e-12)
    made = PromptFilter.of(model, erasure)
    with made.on():
        torch.testing.assert_close(drawn(model), fused, rtol=0, atol=1e-12)
        made.active = False
        assert torch.equal(drawn(model), plain)
    assert torch.equal(drawn(model), plain)
    z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cond = made(model.encode(["a gun"]))
    with applied(model, erasure):
        asked = model.predict(z, 3, model.encode(["a gun"])).value
    torch.testing.assert_close(model.predict(z, 3, cond).value, asked, rtol=0, atol=1e-12)

    k, a, s = p.pairs.source, p.pairs.anchor, p.preserve.second_moment(p.width)
    for name, weight in model.parameter_group("cross_kv").parameters.items():
        left = p.ridge * weight + (weight @ a) @ k.T + weight @ s
        published = left @ torch.inverse(p.ridge * torch.eye(p.width, dtype=torch.float64) + k @ k.T + s)
        with applied(model, erasure):
            torch.testing.assert_close(
                model.parameter_group("cross_kv").parameters[name].detach(), published, rtol=0, atol=1e-10
            )


def test_values_alone_are_no_filter(model: StableDiffusionModel) -> None:
    solution = problem(model).solve()
    with pytest.raises(EffaceError, match="cross_v is not all that reads the text"):
        to_edit(model, solution, "cross_v", "filter")
    edit, tensors = to_edit(model, solution, "cross_v")
    with pytest.raises(EffaceError, match="do not share one edit"):
        PromptFilter.of(model, erasure_of(model, [edit], tensors))


def test_diagnostics_say_how_well_it_was_solved(model: StableDiffusionModel) -> None:
    p, weights = problem(model, 1e-9), model.parameter_group("cross_kv").parameters
    tight = diagnose(p, p.solve(), weights)
    loose = problem(model, 1e3)
    slack_solution = loose.solve()
    slack = diagnose(loose, slack_solution, weights)
    assert tight.residual < 0.5 < slack.residual <= 1
    assert tight.condition > slack.condition
    exact = torch.linalg.eigvalsh(
        p.pairs.source @ p.pairs.source.T + p.preserve.second_moment(p.width) + p.ridge * torch.eye(p.width)
    )
    assert 0.2 < tight.condition / float(exact[-1] / exact[0]) < 2
    e, kept = (
        slack_solution.dense(),
        PreservedStates.of(EmbeddingCache.of(model), CONCEPT.retain_prompts, whole=False).texts,
    )
    states = torch.cat([model.encode([text]).states[0] for text in kept]).T
    assert slack.preserved == pytest.approx(float((e @ states).norm() / states.norm()), rel=1e-9)


def test_statistics_survive_the_artifact(model: StableDiffusionModel, tmp_path: Path) -> None:
    bank = EmbeddingCache.of(model)
    found = Statistics(
        tuple(build_pairs(bank, concept_prompts(c, 0), "tail") for c in (CONCEPT, Concept("dog"))),
        PreservedStates.of(bank, ["a cat", ""], whole=False),
    )
    edit, tensors = to_edit(model, Problem(Pairs.cat(found.pairs), found.kept.preserve(1.0)).solve(), "cross_kv")
    saved = erasure_of(model, [edit], {**tensors, **found.tensors()}).save(tmp_path / "e")
    read = Statistics.read(saved.tensors)
    assert [p.texts for p in read.pairs] == [p.texts for p in found.pairs]
    assert all(
        torch.equal(a.source, b.source) and torch.equal(a.anchor, b.anchor)
        for a, b in zip(read.pairs, found.pairs, strict=True)
    )
    assert read.kept.texts == ("a cat", "")
    assert read.kept.states is not None
    assert found.kept.states is not None
    assert torch.equal(read.kept.states, found.kept.states)


def test_a_gram_of_captions_is_that_of_all_their_tokens(model: StableDiffusionModel, tmp_path: Path) -> None:
    captions = ["a cat", "a dog", "a gun", "a cat", ""]
    gram = GramAccumulator.of_captions(model, iter(captions), batch=2)
    states = model.encode(captions).states.flatten(0, 1).T.detach()
    torch.testing.assert_close(gram.matrix, states @ states.T, rtol=1e-12, atol=1e-12)
    assert (gram.captions, gram.states) == (5, 5 * 16)
    halves = [GramAccumulator.of_captions(model, part) for part in (captions[:2], captions[2:])]
    torch.testing.assert_close(halves[0].merge(halves[1]).matrix, gram.matrix, rtol=1e-12, atol=1e-12)
    read = GramAccumulator.load(gram.save(tmp_path / "gram"))
    assert torch.equal(read.matrix, gram.matrix)
    assert (read.encoder, read.captions, read.states) == (gram.encoder, 5, 80)
    read.check(encoder_mark(model))
    with pytest.raises(EffaceError, match="another text encoder or tokenizer"):
        read.check(encoder_mark(tiny_model(seed=3)))
    with pytest.raises(EffaceError, match="holds no Gram"):
        GramAccumulator.load(tmp_path)


def test_a_text_is_encoded_once(model: StableDiffusionModel) -> None:
    bank = EmbeddingCache.of(model, batch=2)
    calls: list[int] = []
    read = bank._read
    bank._read = lambda texts: calls.append(len(texts)) or read(texts)  # type: ignore[func-returns-value]
    bank.add(["a cat", "a dog", "a cat", "a gun"])
    bank.add(["a gun"])
    bank.states("a dog")
    assert calls == [2, 1]
    assert len(bank) == 3


def test_a_concept_that_the_context_cuts_off(model: StableDiffusionModel) -> None:
    with pytest.raises(EffaceError, match=r"cut off.*use a shorter text"):
        build_pairs(EmbeddingCache.of(model), concept_prompts(Concept("a very long name indeed"), 0), "last")


def test_a_concept_without_tokens(model: StableDiffusionModel) -> None:
    with pytest.raises(EffaceError, match="has no tokens"):
        build_pairs(EmbeddingCache.of(model), [("", "a cat", "")], "last")


def test_the_tokens_that_are_paired(model: StableDiffusionModel) -> None:
    bank = EmbeddingCache.of(model)
    rows = [("a gun by cat", "a dog by cat", "gun")]
    last = build_pairs(bank, rows, "last")
    assert torch.equal(last.source[:, 0], bank.states("a gun by cat")[2])
    assert torch.equal(last.anchor[:, 0], bank.states("a dog by cat")[2])
    tail = build_pairs(bank, rows, "tail")
    assert torch.equal(tail.source, bank.states("a gun by cat")[2:].T)
    dropped, alone = build_pairs(bank, [("a gun by cat", "cat", "gun")], "tail"), bank.states("cat")
    assert torch.equal(dropped.source, bank.states("a gun by cat")[2:].T)
    assert torch.equal(dropped.anchor[:, :5].T, alone[[1, 1, 1, 1, 2]]), (
        "what follows the concept meets itself (by: two tokens)"
    )
    assert torch.equal(build_pairs(bank, [("a gun by cat", "cat", "gun")], "last").anchor[:, 0], alone[1])
    shorter = build_pairs(bank, [("a gun", "", "gun")], "tail")
    assert torch.equal(shorter.source[:, 0], bank.states("a gun")[2])
    assert torch.equal(shorter.anchor[:, 0], bank.states("")[1]), "an empty anchor begins with its end of text"
    assert len(shorter) == 14
    bos = build_pairs(bank, [("a gun", "", "gun")], "last", bos_anchor=True)
    assert torch.equal(bos.anchor[:, 0], bank.states("")[0])
    eos = build_pairs(bank, rows, "eos")
    assert torch.equal(eos.source[:, 0], bank.states("a gun by cat")[bank.places("a gun by cat").eos or 0])
    assert len(build_pairs(bank, rows, "all")) == 16
