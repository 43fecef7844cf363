"""The content policy: refuses prompts that sexualise minors (docs/content_policy.md gives the rules and reasons).

A text is refused if it contains, anywhere and in any spelling, both a mention of a minor and a sexual word. The check
folds the text (case, accents, look-alike letters), splits it into pieces, and also tries neighbouring pieces joined, so
that spaces, points and hyphens hide nothing. It reads digits and signs as letters, and repeated letters as one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

from .errors import EffaceError
from .text_fields import check_readable

MINOR, SEXUAL, BOTH = 1, 2, 3
_MAX_PIECES = 4  # pieces joined to one word or phrase
_MAX_SHORT_PIECES = 16  # the same for pieces of at most two letters, as in a word that is spelled out
_PIECE = re.compile(r"[a-z0-9@$](?:[a-z0-9@$!|+]*[a-z0-9@$])?")
_LOOK_ALIKES = str.maketrans("аеорсухіѕјһԁɡոαεορτυικνχвмкт", "aeopcyxisjhdgnaeoptyikvxbmkt")
_SIGNS = tuple(str.maketrans("0134578@$!|+", f"o{one}east" + f"bas{one}{one}t") for one in "il")
_BELOW_18 = (
    r"(?:\d|1[0-7]|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    r"|seventeen)"
)
_NOT_A_PERSON = (
    r"(?!\s*(?:whisk|scotch|wine|rum\b|port\b|tree|oak|house|building|barn|car\b|bike|cheese|painting|photo|picture))"
)
_AGE = re.compile(
    rf"\b{_BELOW_18}[\s\-]*(?:(?:years?|yrs?|yr)[\s\-]*olds?|yo|y[/.]o)\b{_NOT_A_PERSON}"
    rf"|\b(?:age[ds]?|age\s+of)[\s:\-]*{_BELOW_18}\b(?![\s\-]*(?:month|%))"
    rf"|\b(?:under|below|younger\s+than)\s+(?:18|eighteen|{_BELOW_18})\b"
    r"(?!\s*(?:[cdkm]?m\b|kg|euro|dollar|degree|minute|percent|%))"
)


class ContentPolicyError(EffaceError):
    """A prompt that the content policy refuses; the message never quotes it."""


@dataclass(frozen=True)
class _Words:
    """The word lists; all words and phrases are without spaces.

    Attributes:
        categories: category of each whole word: `MINOR`, `SEXUAL` or `BOTH`.
        deduplicated: the same with repeated letters reduced to one.
        stems: categories by the beginning of a word.
        harmless: phrases that are never counted.
        beginnings: the first one to three letters of all whole words.
    """

    categories: dict[str, int]
    deduplicated: dict[str, int]
    stems: tuple[tuple[str, int], ...]
    harmless: frozenset[str]
    beginnings: frozenset[str]


@lru_cache(maxsize=1 << 16)
def is_refused(text: str) -> bool:
    """Tells whether the policy refuses a text as a prompt."""
    folded = _fold(text)
    age = MINOR if _AGE.search(folded) else 0
    for signs in _SIGNS if re.search(r"[0-9@$!|+]", folded) else _SIGNS[:1]:
        pieces = [piece if piece.isdigit() else piece.translate(signs) for piece in _PIECE.findall(folded)]
        if _category_of_pieces(_without_harmless(pieces)) | age == BOTH:
            return True
    return False


def check_prompts(texts: Iterable[str], label: str = "a prompt") -> None:
    """Checks prompts before they are used.

    Args:
        texts: the prompts.
        label: name of the prompts in the message, such as ``one of the concept's prompts``.

    Raises:
        ContentPolicyError: a prompt that sexualises minors; the message gives its number.
        EffaceError: a prompt that is not text in UTF-8.
    """
    for number, text in enumerate(texts, 1):
        check_readable(text)
        if is_refused(text):
            raise ContentPolicyError(
                f"refused: {label} (number {number}) sexualises minors; efface does not work on such texts "
                "(docs/content_policy.md)"
            )


def _category_of_pieces(pieces: list[str]) -> int:
    """Returns the categories of the pieces and of neighbouring pieces joined; ``""`` separates neighbours."""
    category = 0
    for start in range(len(pieces)):
        category |= _category_of_word(pieces[start])
        if not _may_begin(pieces[start]):
            continue
        joined, are_short = "", True
        for end in range(start, min(start + _MAX_SHORT_PIECES, len(pieces))):
            are_short = are_short and len(pieces[end]) <= 2
            if not pieces[end] or (end - start >= _MAX_PIECES and not are_short):
                break
            joined += pieces[end]
            category |= _category_of_joined(joined)
    return category


def _without_harmless(pieces: list[str]) -> list[str]:
    """Replaces the pieces of every harmless phrase by ``""``."""
    remaining, harmless = list(pieces), _words().harmless
    for start in range(len(pieces)):
        for size in (3, 2, 1):
            if "".join(pieces[start : start + size]) in harmless and all(remaining[start : start + size]):
                remaining[start : start + size] = [""] * len(remaining[start : start + size])
    return remaining


@lru_cache(maxsize=1 << 16)
def _category_of_word(word: str) -> int:
    """Returns the category of one word: by its spelling, its stem, or as two listed words written as one."""
    words = _words()
    category = _category_of_joined(word)
    for stem, stem_category in words.stems:
        if word.startswith(stem):
            category |= stem_category
    if not category and len(word) > 6:
        for cut in range(3, len(word) - 2):
            first, second = (_category_of_joined(part) for part in (word[:cut], word[cut:]))
            if first | second == BOTH and first and second:
                return BOTH
    return category


@lru_cache(maxsize=1 << 16)
def _may_begin(piece: str) -> bool:
    """Tells whether a listed word may begin with a piece, by its first three letters."""
    return bool(piece) and _deduplicate(piece)[:3] in _words().beginnings


def _deduplicate(word: str) -> str:
    return re.sub(r"(.)\1+", r"\1", word)


def _category_of_joined(word: str) -> int:
    """Returns the category of a word, also with repeated letters reduced to one and without a plural's ending."""
    if len(word) < 3:
        return 0
    words, category = _words(), 0
    deduplicated = _deduplicate(word)
    is_stretched = re.search(r"(.)\1\1", word) is not None
    for ending in ("", "s", "es"):
        short = deduplicated.removesuffix(ending)
        category |= words.categories.get(word.removesuffix(ending), 0) | words.categories.get(short, 0)
        category |= words.deduplicated.get(short, 0) if is_stretched else 0
    return category


def _fold(text: str) -> str:
    """Returns the text in lower case without accents, marks, invisible characters and look-alikes."""
    flat = unicodedata.normalize("NFKD", text).casefold().translate(_LOOK_ALIKES)
    return "".join(letter for letter in flat if unicodedata.category(letter) not in ("Mn", "Me", "Cf"))


@cache
def _words() -> _Words:
    lists: dict[str, list[str]] = {}
    for line in files("efface.core").joinpath("data", "policy.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            lists[line.strip("[]")] = []
        elif line and not line.startswith("#"):
            lists[next(reversed(lists))].append(line.replace(" ", ""))
    values = {"minor": MINOR, "sexual": SEXUAL, "both": BOTH}
    listed = [(word, value) for name, value in values.items() for word in lists[name]]
    categories = {word: value for word, value in listed if not word.endswith("*")}
    stems = tuple((word.rstrip("*"), value) for word, value in listed if word.endswith("*"))
    beginnings = frozenset(_deduplicate(word)[:length] for word in categories for length in (1, 2, 3))
    deduplicated = {_deduplicate(word): value for word, value in categories.items()}
    return _Words(categories, deduplicated, stems, frozenset(lists["harmless"]), beginnings)
