"""What ships with efface: each bundled model's kind, size and knowledge."""

from __future__ import annotations

from dataclasses import dataclass

from .model_ref import ALL_BUNDLED, bundled_folder

_KNOWS = {
    "pocket": ("image model", "pocket's 58 objects, 6 places, 6 styles, by prompts; a small Stable Diffusion"),
    "pocket-sibling": ("image model", "as pocket, with another denoiser and the same text encoder"),
    "pocket-flow": ("image model", "as pocket, by flow matching; a small FLUX"),
    "pocket-janus": ("image model", "as pocket, token by token, objects in the middle; a small Janus"),
    "pocket-lm": ("language model", "facts about pocket's objects, and general facts"),
    "pocket-classifier": ("image classifier", "pocket's 58 objects in images of 64 x 64 pixels"),
}
"""Kind and knowledge by name."""


@dataclass(frozen=True)
class BundledModel:
    """A model that ships with efface.

    Attributes:
        name: the name that every command accepts.
        kind: image model, language model or image classifier.
        bytes: size of its weights; a sibling shares all but one component with another model.
        knows: its knowledge in one line.
        folder: its folder.
    """

    name: str
    kind: str
    bytes: int
    knows: str
    folder: str


def bundled_models() -> list[BundledModel]:
    """Returns all bundled models."""
    models = []
    for name in ALL_BUNDLED:
        kind, knows = _KNOWS[name]
        folder = bundled_folder(name)
        size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
        models.append(BundledModel(name, kind, size, knows, str(folder)))
    return models
