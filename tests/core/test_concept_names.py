"""Names of many concepts stay readable."""

from __future__ import annotations

from efface.core.concept import Concept
from efface.core.concept_names import concept_names


def test_the_rest_of_many_names_is_counted():
    concepts = [Concept(name) for name in "abcdefg"]
    assert concept_names(concepts) == "a, b, c, d and 3 more"
    assert concept_names(concepts, limit=None) == "a, b, c, d, e, f, g"
    assert concept_names(concepts[:5]) == "a, b, c, d, e"
