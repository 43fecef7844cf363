"""The page of ``efface serve``; runs where Gradio is installed (``pip install 'efface[web]'``)."""

from __future__ import annotations

import pytest

from efface.web.studio import ImageRequest

pytest.importorskip("gradio")

from efface.web.page import _answer_with, build_page


def test_the_page_has_the_erasures_and_a_queue_for_one_model(studio):
    page = build_page(studio)
    components = {block.elem_id: block for block in page.blocks.values() if getattr(block, "elem_id", None)}
    assert [value for _, value in components["erasures"].choices] == ["first", "second"]
    assert {"prompt", "generate", "images", "attacks", "verdicts"} <= set(components)
    limits = {event.concurrency_id: event.concurrency_limit for event in page.fns.values()}
    assert limits["model"] == 1


def test_answers_are_images_and_attacks_or_one_line(studio):
    def bar(*_args: object, **_more: object) -> None:
        """Ignores the progress."""

    request = ImageRequest("a gun", ("first",), num_images=1, num_inference_steps=1)
    values = [list(value) if isinstance(value, tuple) else value for value in vars(request).values()]
    html, attacks = _answer_with(studio)(*values, bar)
    assert "data:image/png" in html
    assert attacks[0][::3] == ["my gun", "first"]
    html, attacks = _answer_with(studio)("a nude child", *values[1:], bar)
    assert "refused" in html
    assert attacks == []
