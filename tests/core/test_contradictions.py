"""Concepts of one run that contradict each other are refused or warned of."""

from __future__ import annotations

import warnings

import pytest

from efface.core.concept import Concept
from efface.core.contradictions import check_contradictions
from efface.core.errors import EffaceError


@pytest.mark.parametrize("anchor", ["dog", "a Dog in the snow", "hound", "dogs", "two hounds"])
def test_an_anchor_that_is_erased_too_is_refused(anchor):
    dog = Concept("dog", synonyms=("hound",), anchor="cat" if anchor == "dog" else "")
    with pytest.raises(EffaceError, match=r"the anchor of 'cat', names 'dog', which is to be erased too: choose"):
        check_contradictions([Concept("cat", anchor=anchor), dog])
    with pytest.raises(EffaceError, match="is to be erased too"):
        check_contradictions([dog, Concept("cat", anchor=anchor)])


def test_a_name_inside_another_name_is_refused_with_other_anchors_and_warned_of_else():
    inner, outer = Concept("ball", anchor="cube"), Concept("golf ball", anchor="machine")
    with pytest.raises(EffaceError, match=r"'ball' \(anchor 'cube'\) is part of 'golf ball'.*the same anchor"):
        check_contradictions([inner, outer])
    with pytest.raises(EffaceError, match=r"'sphere'.*is part of 'golf balls'"):
        check_contradictions([Concept("sphere", synonyms=("ball",), anchor="dog"), Concept("golf balls", anchor="box")])
    with pytest.warns(UserWarning, match="the concept 'ball' is part of the concept 'golf ball'"):
        check_contradictions([Concept("golf ball"), Concept("ball")])


def test_concepts_without_contradiction_pass_in_silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_contradictions(
            [
                Concept("golf ball", anchor="ball"),
                Concept("doctor", anchor="male doctor"),
                Concept("weapon", synonyms=("gun",)),
                Concept("gun"),
                Concept("doggerel", anchor="poem"),
                Concept("dog", anchor="animal"),
            ]
        )
