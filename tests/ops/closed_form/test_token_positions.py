"""Token positions of a text and of an empty one."""

from __future__ import annotations

from efface.ops.closed_form import TokenPositions


def test_the_last_token() -> None:
    text, empty = TokenPositions(length=5, eos=3), TokenPositions(length=5, eos=1)
    assert (list(text.content), text.last(), text.last(empty_as_bos=True)) == ([1, 2], 2, 2)
    assert (list(empty.content), empty.last(), empty.last(empty_as_bos=True)) == ([], 1, 0)
