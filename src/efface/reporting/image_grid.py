"""A labelled grid of images."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

INK, FAINT, PAPER = (28, 28, 34), (120, 120, 130), (255, 255, 255)
MARGIN, GAP, LABEL_HEIGHT = 16, 8, 18
TITLE_SIZE, ROW_TITLE_SIZE, TEXT_SIZE = 18, 14, 12
ROW_TITLE_HEIGHT = 22


def labelled_grid(
    images: Sequence[Image.Image],
    labels: Sequence[str],
    *,
    title: str = "",
    subtitle: str = "",
    columns: int = 4,
    side: int = 128,
    row_titles: Sequence[str] = (),
) -> Image.Image:
    """Draws images in rows under a title, each with a label below.

    Args:
        images: Images, scaled to ``side`` x ``side`` pixels; smaller ones keep sharp pixels.
        labels: One label per image, of one or more lines; a line that is too long ends with an ellipsis.
        title: First line.
        subtitle: Second line, in grey.
        columns: Number of images per row.
        side: Side of an image in the grid, in pixels.
        row_titles: A line above each row; an empty one takes no space.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    titles = [*row_titles, *[""] * (rows - len(row_titles))]
    label_height = LABEL_HEIGHT * max(label.count("\n") + 1 for label in labels)
    head_height = (26 if title else 0) + (18 if subtitle else 0) + (6 if title or subtitle else 0)
    width = 2 * MARGIN + columns * side + (columns - 1) * GAP
    height = 2 * MARGIN + head_height + rows * (side + label_height + GAP) - GAP
    sheet = Image.new("RGB", (width, height + ROW_TITLE_HEIGHT * sum(map(bool, titles))), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_head(draw, title, subtitle, width - 2 * MARGIN)
    y = MARGIN + head_height
    for row, row_title in enumerate(titles):
        if row_title:
            _draw_line(draw, row_title, y, ROW_TITLE_SIZE, INK, width - 2 * MARGIN)
            y += ROW_TITLE_HEIGHT
        for column, i in enumerate(range(row * columns, min((row + 1) * columns, len(images)))):
            _draw_cell(sheet, images[i], labels[i], MARGIN + column * (side + GAP), y, side)
        y += side + label_height + GAP
    return sheet


def png_bytes(image: Image.Image) -> bytes:
    """Encodes an image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _draw_head(draw: ImageDraw.ImageDraw, title: str, subtitle: str, width: int) -> None:
    if title:
        _draw_line(draw, title, MARGIN - 2, TITLE_SIZE, INK, width)
    if subtitle:
        _draw_line(draw, subtitle, MARGIN + (24 if title else 0), TEXT_SIZE, FAINT, width)


def _draw_line(
    draw: ImageDraw.ImageDraw, text: str, y: int, size: int, colour: tuple[int, int, int], width: int
) -> None:
    font = ImageFont.load_default(size)
    draw.text((MARGIN, y), _fit(draw, text, font, width), fill=colour, font=font)


def _draw_cell(sheet: Image.Image, image: Image.Image, label: str, x: int, y: int, side: int) -> None:
    """Draws one image and its label; ``x`` and ``y`` are the image's upper left corner."""
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT_SIZE)
    resample = Image.Resampling.NEAREST if image.width < side else Image.Resampling.LANCZOS
    sheet.paste(image.convert("RGB").resize((side, side), resample), (x, y))
    for i, line in enumerate(label.split("\n")):
        draw.text((x, y + side + 2 + i * LABEL_HEIGHT), _fit(draw, line, font, side), fill=FAINT, font=font)


def _fit(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """``text``, shortened with an ellipsis until it fits."""
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text + "…"
