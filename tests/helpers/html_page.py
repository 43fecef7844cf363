"""The HTML page of an artifact, parsed."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from efface.reporting.page import write_report

VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """Parses a page: tags with attributes, text outside of style, and tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.wrong: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.wrong += self._open
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag):
        if not self._open or self._open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if not self._open or self._open[-1] != "style":
            self.text += f" {data} "

    def all(self, tag: str) -> list[dict[str, str]]:
        """All tags of a name, without the lightbox's images, which its script fills in."""
        return [attrs for name, attrs in self.tags if name == tag and attrs.get("src") != "data:,"]


def page_of(artifact: Path) -> Page:
    return Page(write_report(artifact).read_text(encoding="utf-8"))
