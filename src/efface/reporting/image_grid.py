"""A labelled grid of images."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

INK, FAINT, PAPER = (28, 28, 34), (120, 120, 130), (255, 255, 255)
MARGIN, GAP, LABEL = 16, 8, 18


def _fit(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """``text``, shortened with an ellipsis until it fits."""
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text + "…"


def labelled_grid(
    images: Sequence[Image.Image],
    labels: Sequence[str],
    *,
    title: str = "",
    subtitle: str = "",
    columns: int = 4,
    side: int = 128,
) -> Image.Image:
    """Images in rows, each with a label below, under a title.

    Args:
        images: drawn ``side`` pixels wide and high, with sharp pixels when they are smaller.
        labels: one an image, of one or more lines; a line is cut with an ellipsis where too long.
        title: first line.
        subtitle: second line, in grey.
        columns: images in a row.
        side: pixels.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    foot = LABEL * max(label.count("\n") + 1 for label in labels)
    big, small = ImageFont.load_default(18), ImageFont.load_default(12)
    head = (26 if title else 0) + (18 if subtitle else 0) + (6 if title or subtitle else 0)
    width = 2 * MARGIN + columns * side + (columns - 1) * GAP
    sheet = Image.new("RGB", (width, 2 * MARGIN + head + rows * (side + foot + GAP) - GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((MARGIN, MARGIN - 2), _fit(draw, title, big, width - 2 * MARGIN), fill=INK, font=big)
    if subtitle:
        draw.text(
            (MARGIN, MARGIN + (24 if title else 0)),
            _fit(draw, subtitle, small, width - 2 * MARGIN),
            fill=FAINT,
            font=small,
        )
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        x, y = MARGIN + i % columns * (side + GAP), MARGIN + head + i // columns * (side + foot + GAP)
        resample = Image.Resampling.NEAREST if image.width < side else Image.Resampling.LANCZOS
        sheet.paste(image.convert("RGB").resize((side, side), resample), (x, y))
        for line, text in enumerate(label.split("\n")):
            draw.text((x, y + side + 2 + line * LABEL), _fit(draw, text, small, side), fill=FAINT, font=small)
    return sheet
