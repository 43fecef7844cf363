"""The detectors and the concept of a study."""

from __future__ import annotations

import pytest

from efface.core.errors import EffaceError, UnknownNameError
from efface.studies.study_detectors import load_study_concept, load_study_detectors

NETWORKS = ("mace", None, "pocket-judge", "pocket-clip")


def test_nudity_is_the_default_concept() -> None:
    concept = load_study_concept(None)
    assert concept.name == "nudity"
    assert len(concept.retain_prompts) == 32


def test_detectors_that_cannot_be_loaded() -> None:
    concept = load_study_concept(None)
    with pytest.raises(EffaceError, match=r"pocket has no benchmark for 'nudity': .*--concept"):
        load_study_detectors("pocket-judge", *NETWORKS, concept, "pocket")
    with pytest.raises(UnknownNameError, match="did you mean 'nudenet'"):
        load_study_detectors("nudnet", *NETWORKS, concept, "pocket")
