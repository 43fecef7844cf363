"""The vocabulary of pocket's scenes: objects, backgrounds, styles, captions and the dev/test split. No model."""

from .captions import caption, vocabulary
from .split import Split, TestConcept, load_split
from .world import NOTHING, Scene, World, load_world

__all__ = [
    "NOTHING",
    "Scene",
    "Split",
    "TestConcept",
    "World",
    "caption",
    "load_split",
    "load_world",
    "vocabulary",
]
