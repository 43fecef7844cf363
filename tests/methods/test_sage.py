from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny import WIDTH, erasure_of, tiny_model, tiny_of

from efface.core.concept import Concept
from efface.core.errors import EffaceError, UnknownNameError
from efface.core.spec import RunSpec
from efface.methods.sage import Config, sage
from efface.models.stable_diffusion import StableDiffusionModel
from efface.ops.editing.apply import applied
from efface.ops.elide.domain_words import candidate_pool, mine_domain_words
from efface.ops.training.run import Run

SENTENCES = str(Path(__file__).with_name("sentences.txt"))
CONCEPT = Concept("gun", retain_prompts=("a cat", "a dog"))


def made(model: StableDiffusionModel, concepts: tuple[Concept, ...] = (CONCEPT,), **more: object) -> Run:
    """A run of a few steps; returns the run with its history."""
    small = {
        "steps": 4,
        "warmup": 2,
        "lr": 1e-3,
        "batch": 2,
        "attack_steps": 2,
        "top": 1,
        "sampler_steps": 2,
        "templates": SENTENCES,
    }
    run = Run(seed=0, spec=RunSpec("tiny", {}, "sage", {}, concepts))
    sage(model, concepts, Config(**{**small, **more}), run)  # type: ignore[arg-type]
    return run


def test_the_search_begins_after_the_warm_up() -> None:
    history = made(tiny_model()).history["train"]
    assert ["attack" in row for row in history] == [False, False, True, True]
    assert history[0]["graph"] == pytest.approx(0, abs=1e-10), "nothing has drifted at the first step"
    assert history[-1]["graph"] > 0


def test_retention_keeps_what_it_is_given() -> None:
    """With heavy retention the retained prompts drift less."""

    def drift(**weights: float) -> float:
        model = tiny_model()
        run = Run(seed=0, spec=RunSpec("tiny", {}, "sage", {}, (CONCEPT,)))
        config = Config(
            steps=30,
            warmup_steps=30,
            learning_rate=3e-3,
            batch_size=2,
            top_k=1,
            num_inference_steps=2,
            template_file=SENTENCES,
            **weights,
        )
        erasure = sage(model, (CONCEPT,), config, run)
        tensors = {
            name: torch.from_numpy(erasure.tensors[key].numpy().copy())
            for name, key in erasure.edits[0].tensors.items()
        }
        own = model.parameter_group("text_all").own(tensors)
        with torch.no_grad():
            return float(
                (model.encode(CONCEPT.retain_prompts, params=own).states - model.encode(CONCEPT.retain_prompts).states)
                .square()
                .mean()
            )

    assert drift(graph=100.0, local=10.0) < 0.7 * drift(graph=0.0, local=0.0)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"target": "promt"}, "did you mean 'prompt'"),
        ({"objective": "cc"}, "attack objective"),
        ({"similarity": "toks"}, "did you mean 'tokens'"),
        ({"free": "al"}, "did you mean 'all'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"graph_form": "crss"}, "did you mean 'cross'"),
        ({"top": 4}, "at least 4 retain prompts, and there are 2"),
        ({"sites": "cross_kv"}, "text encoder"),
        ({"templates": "none.txt"}, "cannot read none.txt"),
    ],
)
def test_bad_settings_are_one_line(more: dict[str, object], said: str) -> None:
    with pytest.raises((EffaceError, UnknownNameError), match=said):
        made(tiny_model(), **more)


def test_a_concept_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("a b c d e f g h i j k l m n {}\n")
    with (
        pytest.warns(UserWarning, match="cut off"),
        pytest.raises(EffaceError, match="'gun' is cut off by the context"),
    ):
        made(tiny_model(), templates=str(path))
    path.write_text("a sentence without it\n")
    with pytest.raises(EffaceError, match=r"has no \{\}"):
        made(tiny_model(), templates=str(path))


def test_own_words_are_words_that_explain_better() -> None:
    model = tiny_model()
    known = candidate_pool(model, CONCEPT)
    assert set(known) == set(), "cat and dog are retained, gun is the concept"
    free = Concept("gun", retain_prompts=("x",))
    assert set(candidate_pool(model, free)) == {"cat", "dog"}
    for asked in ("all", "near"):
        found = mine_domain_words(model, free, count=2, images=4, levels=2, steps=2, asked=asked)
        assert {word.word for word in found} <= {"cat", "dog"}
        assert all(word.gain > 0 and 0 < word.share <= 1 for word in found)
        assert found == mine_domain_words(model, free, count=2, images=4, levels=2, steps=2, asked=asked)
    with pytest.raises(UnknownNameError, match="did you mean 'near'"):
        mine_domain_words(model, free, count=2, asked="nere")


def test_what_is_said_is_erased_and_made_up_words_are_held_where_that_is_asked() -> None:
    plain = made(tiny_model()).history["train"]
    assert [row["said"] for row in plain] == [0, 0, 0, 0]
    assert [row["made_up"] for row in plain] == [0, 0, 0, 0]
    both = made(tiny_model(), said=1.0, made_up=1.0).history["train"]
    assert both[0]["said"] > 0
    assert both[-1]["made_up"] > 0


def test_own_words_are_erased_beside_the_name_of_a_domain_alone() -> None:
    def losses(kind: str, words: int) -> torch.Tensor:
        concept = Concept("gun", kind=kind, retain_prompts=("x", "my x"))
        run = made(tiny_model(), (concept,), words=words, words_images=4)
        return torch.tensor([step["erase"] for step in run.history["train"]])

    assert torch.equal(losses("object", 2), losses("object", 0))
    for kind in ("domain", "abstract"):
        assert float(losses(kind, 2)[0]) > 2 * float(losses(kind, 0)[0]), "a loss of more sentences"


@pytest.mark.parametrize(("reach", "held"), [(0.999, False), (-1.0, True)])
def test_what_made_up_words_show_is_held_where_a_domain_s_own_words_lie_beyond_them(reach: float, held: bool) -> None:
    domain = Concept("gun", kind="domain", retain_prompts=("x", "my x"))
    history = made(tiny_model(), (domain,), words=2, words_images=4, made_up=1.0, reach=reach).history["train"]
    assert (history[-1]["made_up"] > 0) == held


def test_on_sdxl_both_encoders_forget_and_retained_prompts_move_less() -> None:
    model = tiny_of("sdxl")
    with (
        torch.no_grad()
    ):  # a random denoiser hardly reads the text: louder, so that there is something to erase and to retain
        for weight in model.parameter_group("cross_all").parameters.values():
            weight *= 4
    run = Run(seed=0, spec=RunSpec("tiny", {}, "sage", {}, (CONCEPT,)))
    small = {
        "steps": 40,
        "warmup": 5,
        "lr": 5e-4,
        "batch": 4,
        "attack_steps": 3,
        "top": 2,
        "sampler_steps": 4,
        "templates": SENTENCES,
    }
    erasure = sage(
        model, (CONCEPT,), Config(graph_weight=1000.0, local_weight=100.0, negative_guidance=3.0, **small), run
    )  # type: ignore[arg-type]
    assert [edit.component for edit in erasure.edits] == ["text_encoder", "text_encoder_2"]
    assert {name.split(".")[0] for name in erasure.tensors} == {"text_encoder", "text_encoder_2"}
    asked, kept = ["a gun", "my gun"], list(CONCEPT.retain_prompts)
    with torch.no_grad():
        before = [model.encode(prompts) for prompts in (asked, kept)]
        with applied(model, erasure_of(model, list(erasure.edits), dict(erasure.tensors))):
            after = [model.encode(prompts) for prompts in (asked, kept)]
    for part in (slice(WIDTH), slice(WIDTH, None)):
        moves = [
            float((a.states - b.states)[..., part].norm() / b.states[..., part].norm())
            for a, b in zip(after, before, strict=True)
        ]
        assert moves[0] > 0.05
        assert moves[1] < 0.7 * moves[0]
    assert not torch.allclose(after[0].pooled, before[0].pooled, atol=1e-3)


def test_one_encoder_alone_where_that_is_asked() -> None:
    model = tiny_of("sdxl")
    run = Run(seed=0, spec=RunSpec("tiny", {}, "sage", {}, (CONCEPT,)))
    small = {
        "steps": 2,
        "warmup": 1,
        "lr": 3e-3,
        "batch": 2,
        "attack_steps": 2,
        "top": 2,
        "sampler_steps": 2,
        "templates": SENTENCES,
    }
    erasure = sage(model, (CONCEPT,), Config(target_modules="text_encoder_2/text_mlp", **small), run)  # type: ignore[arg-type]
    assert [edit.component for edit in erasure.edits] == ["text_encoder_2"]
