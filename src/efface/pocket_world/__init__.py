"""What pocket's scenes are made of: objects, backgrounds, styles, captions, drawing. No model in here."""

from .captions import caption, vocabulary
from .draw import draw_scene
from .split import Split, TestConcept, load_split
from .world import NOTHING, Scene, World, load_world

__all__ = [
    "NOTHING",
    "Scene",
    "Split",
    "TestConcept",
    "World",
    "caption",
    "draw_scene",
    "load_split",
    "load_world",
    "vocabulary",
]
