"""A comparison of prompts' images before and after an erasure: one HTML page and one labelled PNG grid."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from PIL import Image

from efface.core.concept_names import concept_names
from efface.core.erasure import Erasure

from .data_uris import PIXELATED_SIDE, encode_data_uri
from .image_grid import labelled_grid
from .templates import read_script, render_template

GRID_SIDE = 144
"""Side of an image in the grid, in pixels."""


@dataclass(frozen=True)
class ComparedImages:
    """The images of one prompt and seed.

    Attributes:
        prompt: the prompt.
        seed: the seed of both images.
        before: PNG file of the base model's image.
        after: PNG file of the image with the erasure.
    """

    prompt: str
    seed: int
    before: bytes
    after: bytes

    @property
    def title(self) -> str:
        """The prompt, or words for the empty one."""
        return self.prompt or "(no prompt)"


def render_comparison_page(erasure: Erasure, images: Sequence[ComparedImages], settings: str) -> str:
    """Renders a page that loads nothing else.

    Args:
        erasure: the erasure.
        images: the images, all of a prompt together.
        settings: model and sampler in words.
    """
    prompts = [
        (title, [_pair_view(pair) for pair in pairs]) for title, pairs in groupby(images, lambda pair: pair.title)
    ]
    names = concept_names(erasure.concepts)
    script, script_hash = read_script("lightbox.js")
    variables = {
        "concept_names": names,
        "spec": erasure.spec,
        "prompts": prompts,
        "settings": settings,
        "lightbox_script": script,
        "lightbox_hash": script_hash,
    }
    return render_template("comparison.html", variables, {})


def comparison_grid(erasure: Erasure, images: Sequence[ComparedImages], settings: str) -> Image.Image:
    """Draws the images of each prompt in two rows: before, and below it after."""
    rows = [list(pairs) for _, pairs in groupby(images, lambda pair: pair.title)]
    cells, labels, titles = [], [], list[str]()
    for pairs in rows:
        titles += [pairs[0].title, ""]
        for when in ("before", "after"):
            cells += [Image.open(io.BytesIO(getattr(pair, when))) for pair in pairs]
            labels += [f"{when} · seed {pair.seed}" for pair in pairs]
    names = concept_names(erasure.concepts)
    return labelled_grid(
        cells, labels, title=f"Erasure of {names} by {erasure.spec.method}", subtitle=settings, columns=len(rows[0]),
        side=GRID_SIDE, row_titles=titles,
    )  # fmt: skip


def _pair_view(pair: ComparedImages) -> dict[str, object]:
    views = {when: encode_data_uri(data) for when, data in (("before", pair.before), ("after", pair.after))}
    with Image.open(io.BytesIO(pair.before)) as image:
        pixelated = max(image.size) <= PIXELATED_SIDE
    return {"seed": pair.seed, "pixelated": pixelated, **views}
