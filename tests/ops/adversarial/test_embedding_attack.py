from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model

from efface.core.errors import EffaceError, UnknownNameError
from efface.models.soft_prompt import SoftTokens
from efface.ops.adversarial.embedding_attack import OBJECTIVES, EmbeddingAttack, inside_out
from efface.ops.text.concept_tokens import locate_concept
from efface.ops.text.similarity import SIMILARITIES, Similarity, at_places
from efface.ops.text.soft_prompts import embedding_table, nearest_words
from efface.ops.training.student import Student


def moved(model, scale: float = 0.3):  # type: ignore[no-untyped-def]
    """A student whose encoder is another one."""
    student = Student(model, "text_all")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for master in student.masters.values():
            master.add_(scale * torch.randn(master.shape, generator=generator) * master.abs().mean())
    return student


def test_frames_say_what_is_whose() -> None:
    model = tiny_model()
    frames = locate_concept(model, ["a gun x", "my dog gun"], ["gun", "gun"])
    ids = frames.tokens.ids
    word = int(model.tokenize(["gun"]).ids[0, 1])
    assert ids.gather(1, frames.concept_positions[:, :1]).flatten().tolist() == [word, word]
    assert frames.concept_positions[:, 1].tolist() == frames.tokens.eos.tolist()
    assert torch.nonzero(frames.context_mask[0])[:, 0].tolist() == [1, 3]
    short = frames.truncated()
    full, cut = model.encode(frames.tokens), model.encode(short.tokens)
    at = frames.concept_positions
    torch.testing.assert_close(at_places(full.states, at), at_places(cut.states, at), atol=1e-5, rtol=1e-5)


def test_frames_refuse_what_is_not_there() -> None:
    model = tiny_model()
    with pytest.warns(UserWarning, match="cut off"), pytest.raises(EffaceError, match="cut off by the context"):
        locate_concept(model, ["a b c d e f g h i j k l m n o gun"], ["gun"])
    with pytest.raises(EffaceError, match="does not contain"):
        locate_concept(model, ["a cat"], ["gun"])


def test_words_of_different_lengths_share_a_batch() -> None:
    frames = locate_concept(tiny_model(), ["a gun", "a bird x"], ["gun", "bird"])
    assert frames.concept_positions.shape == (2, 5)
    assert frames.concept_positions[0, 1:].tolist() == [int(frames.tokens.eos[0])] * 4


@pytest.mark.parametrize("kind", ["tokens", "sentence"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_search_reaches_more_than_it_starts_from(objective: str, kind: str) -> None:
    model = tiny_model()
    student, similarity, table = moved(model), Similarity(model, kind), embedding_table(model)
    frames, alone = (
        locate_concept(model, ["a gun x", "my dog gun"], ["gun", "gun"]),
        locate_concept(model, ["gun", "gun"], ["gun", "gun"]),
    )

    def reached(steps: int) -> tuple[SoftTokens, torch.Tensor]:
        search = EmbeddingAttack(objective, 1.0, steps, 0.5)
        return inside_out(
            search,
            frames,
            alone,
            erased=student.frozen_encoder(),
            original=model.encode,
            table=table,
            similarity=similarity,
        )

    start, end = reached(0)[1], reached(25)[1]
    if kind == "sentence" and objective in (
        "a",
        "domain",
    ):  # the sentence as it stands is the reference: nothing pulls away from it
        assert start.eq(start[0]).all()
        return
    assert (end > start).all(), (start, end)
    soft, _ = reached(5)
    norms = table.float().norm(dim=-1)
    lengths = soft.embeddings[soft.mask].norm(dim=-1)
    assert float(lengths.max()) <= float(norms.quantile(0.95)) * 1.001
    assert len(nearest_words(model, soft.embeddings[0][soft.mask[0]])) > 0
    assert soft.embeddings[0, 2].equal(table[frames.tokens.ids[0, 2]].float()), "the concept's own token stays"


def test_literal_objectives_against_their_formulas() -> None:
    model = tiny_model()
    student, s = moved(model), Similarity(model, "tokens")
    frames, alone = locate_concept(model, ["a gun x"], ["gun"]), locate_concept(model, ["gun"], ["gun"])
    with torch.no_grad():
        o, e = (
            at_places(f(frames.tokens).states, frames.concept_positions)
            for f in (model.encode, student.frozen_encoder())
        )
        c, c_e = (
            at_places(f(alone.tokens).states, alone.concept_positions) for f in (model.encode, student.frozen_encoder())
        )
    wanted = {
        "a": s(o, c) - s(e, c_e),
        "b": s(o, c) + s(e, o),
        "c": s(o, c) + s(e, c),
        "d": s(o, c) - s(e, o),
        "domain": s(o, c),
    }
    for objective, value in wanted.items():
        _, found = inside_out(
            EmbeddingAttack(objective, 1.0, 0), frames, alone, erased=student.frozen_encoder(), original=model.encode, table=embedding_table(model),
            similarity=s,
        )  # fmt: skip
        torch.testing.assert_close(found, value, atol=1e-5, rtol=1e-5)


def test_a_sentence_is_compared_with_itself_as_it_stood() -> None:
    model = tiny_model()
    student, s = moved(model), Similarity(model)
    frames = locate_concept(model, ["a gun x"], ["gun"])
    with torch.no_grad():
        o, e, nothing = (
            f(t).states[:, 1:].double()
            for f, t in ((model.encode, frames.tokens), (student.frozen_encoder(), frames.tokens), (model.encode, [""]))
        )
        metric = sum(
            w.detach().double().T @ w.detach().double() for w in model.parameter_group("cross_kv").parameters.values()
        )
    off, all_of_it = (torch.einsum("bnd,de,bne->", d, metric, d) for d in (e - o, nothing - o))
    _, found = inside_out(
        EmbeddingAttack("c", 1.0, 0),
        frames,
        frames,
        erased=student.frozen_encoder(),
        original=model.encode,
        table=embedding_table(model),
        similarity=s,
    )
    torch.testing.assert_close(found.double(), (2 - off / all_of_it)[None], atol=1e-4, rtol=1e-4)


def test_what_is_free_and_where_a_search_begins() -> None:
    model = tiny_model()
    student, table = moved(model), embedding_table(model)
    frames = locate_concept(model, ["a gun x", "my dog gun"], ["gun", "gun"])

    def begin(free: str, scatter: float) -> SoftTokens:
        search, generator = (
            EmbeddingAttack("c", 0.0, 0, attack_tokens=free, random_init_prob=scatter),
            torch.Generator().manual_seed(1),
        )
        return inside_out(
            search, frames, frames, erased=student.frozen_encoder(), original=model.encode, table=table, similarity=Similarity(model),
            generator=generator,
        )[0]  # fmt: skip

    own = table[frames.tokens.ids].float()
    assert begin("template", 0.0).embeddings.equal(own)
    assert (begin("all", 0.0).mask.sum(1) - frames.context_mask.sum(1)).tolist() == [1, 1]
    scattered = begin("all", 1.0).embeddings
    assert not scattered[frames.context_mask].isclose(own[frames.context_mask]).all(-1).all()
    assert scattered[~frames.context_mask].equal(own[~frames.context_mask]), (
        "the concept's own tokens start where they are"
    )
    with pytest.raises(UnknownNameError, match="free part of a sentence"):
        EmbeddingAttack(attack_tokens="word")


@pytest.mark.parametrize("kind", [kind for kind in SIMILARITIES if kind != "sentence"])
def test_similarities(kind: str) -> None:
    model = tiny_model()
    s = Similarity(model, kind)
    a, b = torch.randn(2, 3, 32), torch.randn(2, 3, 32)
    torch.testing.assert_close(s(a, a), torch.ones(2))
    torch.testing.assert_close(s(a, -a), -torch.ones(2))
    assert (s(a, b).abs() < 1).all()
    if kind == "kv":
        matrices = [w.detach() for w in model.parameter_group("cross_kv").parameters.values()]
        metric = sum(w.T @ w for w in matrices)
        dot = torch.einsum("bnd,de,bne->bn", a, metric, b)
        norm = torch.einsum("bnd,de,bne->bn", a, metric, a).sqrt() * torch.einsum("bnd,de,bne->bn", b, metric, b).sqrt()
        torch.testing.assert_close(s(a, b), (dot / norm).mean(-1), atol=1e-4, rtol=1e-4)


def test_unknown_names_and_empty_sentences() -> None:
    model = tiny_model()
    with pytest.raises(UnknownNameError, match="attack objective"):
        EmbeddingAttack("e")
    with pytest.raises(UnknownNameError, match="similarity"):
        Similarity(model, "token")
    alone = locate_concept(model, ["gun"], ["gun"])
    with pytest.raises(EffaceError, match="nothing but the concept"):
        inside_out(
            EmbeddingAttack(),
            alone,
            alone,
            erased=model.encode,
            original=model.encode,
            table=embedding_table(model),
            similarity=Similarity(model),
        )


@pytest.mark.parametrize("kind", SIMILARITIES)
def test_a_model_in_bfloat16_is_searched_as_in_float32(kind: str) -> None:
    reached = []
    for dtype in (torch.float32, torch.bfloat16):
        model = tiny_model(dtype=dtype)
        student, table = moved(model), embedding_table(model)
        frames, alone = (
            locate_concept(model, ["a gun x", "my dog gun"], ["gun", "gun"]),
            locate_concept(model, ["gun", "gun"], ["gun", "gun"]),
        )
        _, found = inside_out(
            EmbeddingAttack(steps=10, learning_rate=0.3), frames, alone, erased=student.frozen_encoder(), original=model.encode, table=table,
            similarity=Similarity(model, kind),
        )  # fmt: skip
        assert found.dtype == torch.float32
        reached.append(found.mean())
    torch.testing.assert_close(reached[1], reached[0], atol=0.1, rtol=0)
