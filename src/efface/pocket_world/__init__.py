"""The vocabulary of pocket's scenes: objects, backgrounds, styles, captions and the train/test split. Holds no model."""

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
