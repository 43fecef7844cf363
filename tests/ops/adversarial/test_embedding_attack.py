from __future__ import annotations

import pytest
import torch
from helpers.tiny import tiny_model

from efface.core.errors import EffaceError, UnknownName
from efface.models.soft_prompt import Soft
from efface.ops.adversarial.embedding_attack import OBJECTIVES, Search, inside_out
from efface.ops.text.concept_tokens import framed
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
    frames = framed(model, ["a gun x", "my dog gun"], ["gun", "gun"])
    ids = frames.tokens.ids
    word = int(model.tokenize(["gun"]).ids[0, 1])
    assert ids.gather(1, frames.subject[:, :1]).flatten().tolist() == [word, word]
    assert frames.subject[:, 1].tolist() == frames.tokens.eos.tolist()
    assert torch.nonzero(frames.free[0])[:, 0].tolist() == [1, 3]
    short = frames.truncated()
    full, cut = model.encode(frames.tokens), model.encode(short.tokens)
    at = frames.subject
    torch.testing.assert_close(at_places(full.states, at), at_places(cut.states, at), atol=1e-5, rtol=1e-5)


def test_frames_refuse_what_is_not_there() -> None:
    model = tiny_model()
    with pytest.warns(UserWarning, match="cut off"), pytest.raises(EffaceError, match="cut off by the context"):
        framed(model, ["a b c d e f g h i j k l m n o gun"], ["gun"])
    with pytest.raises(EffaceError, match="does not contain"):
        framed(model, ["a cat"], ["gun"])


def test_words_of_different_lengths_share_a_batch() -> None:
    frames = framed(tiny_model(), ["a gun", "a bird x"], ["gun", "bird"])
    assert frames.subject.shape == (2, 5)
    assert frames.subject[0, 1:].tolist() == [int(frames.tokens.eos[0])] * 4


@pytest.mark.parametrize("kind", ["tokens", "sentence"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_search_reaches_more_than_it_starts_from(objective: str, kind: str) -> None:
    model = tiny_model()
    student, similarity, table = moved(model), Similarity(model, kind), embedding_table(model)
    frames, alone = (
        framed(model, ["a gun x", "my dog gun"], ["gun", "gun"]),
        framed(model, ["gun", "gun"], ["gun", "gun"]),
    )

    def reached(steps: int) -> tuple[Soft, torch.Tensor]:
        search = Search(objective, 1.0, steps, 0.5)
        return inside_out(
            search, frames, alone, erased=student.frozen(), original=model.encode, table=table, similarity=similarity
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
    lengths = soft.embeddings[soft.at].norm(dim=-1)
    assert float(lengths.max()) <= float(norms.quantile(0.95)) * 1.001
    assert len(nearest_words(model, soft.embeddings[0][soft.at[0]])) > 0
    assert soft.embeddings[0, 2].equal(table[frames.tokens.ids[0, 2]].float()), "the concept's own token stays"


def test_literal_objectives_against_their_formulas() -> None:
    model = tiny_model()
    student, s = moved(model), Similarity(model, "tokens")
    frames, alone = framed(model, ["a gun x"], ["gun"]), framed(model, ["gun"], ["gun"])
    with torch.no_grad():
        o, e = (at_places(f(frames.tokens).states, frames.subject) for f in (model.encode, student.frozen()))
        c, c_e = (at_places(f(alone.tokens).states, alone.subject) for f in (model.encode, student.frozen()))
    wanted = {
        "a": s(o, c) - s(e, c_e),
        "b": s(o, c) + s(e, o),
        "c": s(o, c) + s(e, c),
        "d": s(o, c) - s(e, o),
        "domain": s(o, c),
    }
    for objective, value in wanted.items():
        _, found = inside_out(
            Search(objective, 1.0, 0), frames, alone, erased=student.frozen(), original=model.encode, table=embedding_table(model),
            similarity=s,
        )  # fmt: skip
        torch.testing.assert_close(found, value, atol=1e-5, rtol=1e-5)


def test_a_sentence_is_compared_with_itself_as_it_stood() -> None:
    model = tiny_model()
    student, s = moved(model), Similarity(model)
    frames = framed(model, ["a gun x"], ["gun"])
    with torch.no_grad():
        o, e, nothing = (
            f(t).states[:, 1:].double()
            for f, t in ((model.encode, frames.tokens), (student.frozen(), frames.tokens), (model.encode, [""]))
        )
        metric = sum(w.detach().double().T @ w.detach().double() for w in model.sites("cross_kv").parameters.values())
    off, all_of_it = (torch.einsum("bnd,de,bne->", d, metric, d) for d in (e - o, nothing - o))
    _, found = inside_out(
        Search("c", 1.0, 0),
        frames,
        frames,
        erased=student.frozen(),
        original=model.encode,
        table=embedding_table(model),
        similarity=s,
    )
    torch.testing.assert_close(found.double(), (2 - off / all_of_it)[None], atol=1e-4, rtol=1e-4)


def test_what_is_free_and_where_a_search_begins() -> None:
    model = tiny_model()
    student, table = moved(model), embedding_table(model)
    frames = framed(model, ["a gun x", "my dog gun"], ["gun", "gun"])

    def begin(free: str, scatter: float) -> Soft:
        search, generator = Search("c", 0.0, 0, free=free, scatter=scatter), torch.Generator().manual_seed(1)
        return inside_out(
            search, frames, frames, erased=student.frozen(), original=model.encode, table=table, similarity=Similarity(model),
            generator=generator,
        )[0]  # fmt: skip

    own = table[frames.tokens.ids].float()
    assert begin("template", 0.0).embeddings.equal(own)
    assert (begin("all", 0.0).at.sum(1) - frames.free.sum(1)).tolist() == [1, 1]
    scattered = begin("all", 1.0).embeddings
    assert not scattered[frames.free].isclose(own[frames.free]).all(-1).all()
    assert scattered[~frames.free].equal(own[~frames.free]), "the concept's own tokens start where they are"
    with pytest.raises(UnknownName, match="free part of a sentence"):
        Search(free="word")


@pytest.mark.parametrize("kind", [kind for kind in SIMILARITIES if kind != "sentence"])
def test_similarities(kind: str) -> None:
    model = tiny_model()
    s = Similarity(model, kind)
    a, b = torch.randn(2, 3, 32), torch.randn(2, 3, 32)
    torch.testing.assert_close(s(a, a), torch.ones(2))
    torch.testing.assert_close(s(a, -a), -torch.ones(2))
    assert (s(a, b).abs() < 1).all()
    if kind == "kv":
        matrices = [w.detach() for w in model.sites("cross_kv").parameters.values()]
        metric = sum(w.T @ w for w in matrices)
        dot = torch.einsum("bnd,de,bne->bn", a, metric, b)
        norm = torch.einsum("bnd,de,bne->bn", a, metric, a).sqrt() * torch.einsum("bnd,de,bne->bn", b, metric, b).sqrt()
        torch.testing.assert_close(s(a, b), (dot / norm).mean(-1), atol=1e-4, rtol=1e-4)


def test_unknown_names_and_empty_sentences() -> None:
    model = tiny_model()
    with pytest.raises(UnknownName, match="attack objective"):
        Search("e")
    with pytest.raises(UnknownName, match="similarity"):
        Similarity(model, "token")
    alone = framed(model, ["gun"], ["gun"])
    with pytest.raises(EffaceError, match="nothing but the concept"):
        inside_out(
            Search(),
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
            framed(model, ["a gun x", "my dog gun"], ["gun", "gun"]),
            framed(model, ["gun", "gun"], ["gun", "gun"]),
        )
        _, found = inside_out(
            Search(steps=10, lr=0.3), frames, alone, erased=student.frozen(), original=model.encode, table=table,
            similarity=Similarity(model, kind),
        )  # fmt: skip
        assert found.dtype == torch.float32
        reached.append(found.mean())
    torch.testing.assert_close(reached[1], reached[0], atol=0.1, rtol=0)
