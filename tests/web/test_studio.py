"""The work behind the page of ``efface serve``, without Gradio."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from helpers.edits import membrane_edit
from helpers.tiny import erasure_of, state_bytes, tiny_model

from efface.core.errors import EffaceError
from efface.core.policy import ContentPolicyError
from efface.web.image_table import image_table
from efface.web.saved_attacks import SavedAttack, nearest_attacks
from efface.web.studio import MAX_CHARACTERS, ImageRequest, Studio

REQUEST = ImageRequest("a gun", ("first", "second"), num_images=1, num_inference_steps=2)


def test_a_row_of_images_before_and_one_for_each_erasure(studio):
    answer = studio.answer(replace(REQUEST, seed=5, num_images=2))
    assert [row.label for row in answer.rows] == ["before", "first", "second"]
    assert answer.seeds == (5, 6)
    before, first, second = (row.images for row in answer.rows)
    assert before.shape == (2, 3, 16, 16)
    assert not torch.equal(before, first)
    assert not torch.equal(first, second)


def test_erasures_on_top_of_each_other_are_one_row(studio):
    together = studio.answer(replace(REQUEST, together=True)).rows
    assert [row.label for row in together] == ["before", "first + second"]
    assert not any(torch.equal(together[1].images, row.images) for row in studio.answer(REQUEST).rows)


def test_parallel_requests_are_all_answered_as_if_alone_and_leave_the_model_unchanged(studio):
    weights = state_bytes(studio.model)
    requests = [replace(REQUEST, seed=i % 4, erasures=(("first", "second")[i % 2],)) for i in range(20)]
    alone = {request: studio.answer(request).rows[1].images for request in set(requests)}
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(studio.answer, requests))
    assert all(torch.equal(a.rows[1].images, alone[r]) for a, r in zip(answers, requests, strict=True))
    assert state_bytes(studio.model) == weights


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "a cat " * 20}, "too long for tiny"),
        ({"prompt": "x" * (MAX_CHARACTERS + 1)}, "shorten it to 2000 at most"),
        ({"erasures": ()}, "choose at least one"),
        ({"erasures": ("third",)}, "choose from first, second"),
        ({"num_images": 100}, "choose one from 1 to 8"),
        ({"seed": None}, "the seed is None"),
        ({"guidance_scale": float("nan")}, "the guidance scale is nan"),
    ],
)
def test_bad_requests_are_refused_in_one_line(studio, changes, message):
    with pytest.raises(EffaceError, match=message) as refusal:
        studio.answer(replace(REQUEST, **changes))
    assert "\n" not in str(refusal.value)


def test_refused_content_is_answered_in_one_line_that_does_not_quote_it(studio):
    with pytest.raises(ContentPolicyError, match="refused: the prompt") as refusal:
        studio.answer(replace(REQUEST, prompt="a nude child"))
    assert "nude" not in str(refusal.value)


def test_the_nearest_attack_has_the_most_similar_letters():
    attacks = [SavedAttack("e", "a", text, 3) for text in ("a photo of a cat", "a photo of a kn1fe", "a tree")]
    (nearest, similarity), *rest = nearest_attacks("a photo of a knife", attacks * 2, 2)
    assert nearest.prompt == "a photo of a kn1fe"
    assert 0.5 < similarity < 1
    assert [attack.prompt for attack, _ in rest] == ["a photo of a cat"]
    assert nearest_attacks("", attacks, 2) == nearest_attacks("a cat", [], 2) == []


def test_saved_attacks_of_the_chosen_erasures_alone_are_near(studio):
    assert studio.nearest(REQUEST)[0][0] == SavedAttack("first", "synonyms", "my gun", 2)
    assert studio.nearest(replace(REQUEST, erasures=("second",))) == ()


def test_verdicts_name_every_erasure(studio):
    assert studio.verdicts() == [
        ("first", "gun by esd", "", "not evaluated"),
        ("second", "gun by esd", "", "not evaluated"),
    ]


def test_an_erasure_of_another_model_is_refused(studio_folders):
    with pytest.raises(EffaceError, match="base"):
        Studio(studio_folders, tiny_model(seed=1))


def test_images_are_html_without_markup_of_the_labels(studio):
    answer = studio.answer(REQUEST)
    rows = (replace(answer.rows[0], label="<b>"), *answer.rows[1:])
    html = image_table(replace(answer, rows=rows, warnings=("<i>black</i>",)))
    assert html.count("data:image/png;base64,") == 3
    assert "<b>" not in html
    assert "<i>" not in html
    assert "seed 0" in html


def test_the_strength_of_a_gate_for_the_prompt_is_shown(tmp_path):
    model = tiny_model()
    edit, tensors = membrane_edit(model, ["gun"])
    erasure_of(model, [edit], tensors).save(tmp_path / "gated")
    answer = Studio([tmp_path / "gated"], model).answer(replace(REQUEST, erasures=("gated",)))
    assert answer.rows[0].gates == ()
    ((gate, strength),) = answer.rows[1].gates
    assert gate == "similarity to 'gun'"
    assert strength == pytest.approx(1), "the prompt names the concept"
    assert "gate by similarity to &#39;gun&#39;, strength 1.00 for this prompt" in image_table(answer)
