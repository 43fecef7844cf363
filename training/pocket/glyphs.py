"""Makes the glyph atlas ``data/glyphs.png`` from Noto Color Emoji. Needs Debian's fonts-noto-color-emoji."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from efface.pocket_world import load_world
from efface.pocket_world.scenes import ATLAS, CELL, COLUMNS

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")


def main() -> None:
    """Draws every object's glyph, cropped and scaled to a square cell."""
    if not FONT.exists():
        raise SystemExit(f"{FONT} is missing: apt-get install fonts-noto-color-emoji")
    font = ImageFont.truetype(str(FONT), 109)
    objects = list(load_world().object_classes.values())
    atlas = Image.new("RGBA", (COLUMNS * CELL, -(-len(objects) // COLUMNS) * CELL))
    for i, item in enumerate(objects):
        glyph = Image.new("RGBA", (160, 160))
        ImageDraw.Draw(glyph).text((8, 8), chr(int(item.glyph, 16)), font=font, embedded_color=True)
        box = glyph.getbbox()
        if box is None:
            raise SystemExit(f"the font draws nothing for {item.id} (U+{item.glyph})")
        glyph = glyph.crop(box)
        scale = CELL / max(glyph.size)
        glyph = glyph.resize((round(glyph.width * scale), round(glyph.height * scale)), Image.Resampling.LANCZOS)
        corner = (i % COLUMNS * CELL + (CELL - glyph.width) // 2, i // COLUMNS * CELL + (CELL - glyph.height) // 2)
        atlas.paste(glyph, corner)
    atlas.save(ATLAS, optimize=True)


if __name__ == "__main__":
    main()
