"""The content policy: no prompt sexualises minors (docs/content_policy.md says what is decided and why).

A text is refused where it says, anywhere and in any spelling, that somebody is a minor, and has a sexual word. It is folded first (case,
accents, look-alike letters), cut into pieces, and neighbouring pieces are tried together, so that spaces, points and hyphens hide
nothing; digits and signs stand for letters, and repeated letters for one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

from .errors import EffaceError

MINOR, SEXUAL, BOTH = 1, 2, 3
_LONGEST = 4  # pieces of one word or phrase; more where all are at most two letters, as in a word that is spelt out
_SPELT = 16
_PIECE = re.compile(r"[a-z0-9@$](?:[a-z0-9@$!|+]*[a-z0-9@$])?")
_LIKE = str.maketrans("аеорсухіѕјһԁɡոαεορτυικνχвмкт", "aeopcyxisjhdgnaeoptyikvxbmkt")
_SIGNS = tuple(str.maketrans("0134578@$!|+", f"o{one}east" + f"bas{one}{one}t") for one in "il")
_YEARS = r"(?:\d|1[0-7]|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen)"
_THINGS = (
    r"(?!\s*(?:whisk|scotch|wine|rum\b|port\b|tree|oak|house|building|barn|car\b|bike|cheese|painting|photo|picture))"
)
_AGE = re.compile(
    rf"\b{_YEARS}[\s\-]*(?:(?:years?|yrs?|yr)[\s\-]*olds?|yo|y[/.]o)\b{_THINGS}|\b(?:age[ds]?|age\s+of)[\s:\-]*{_YEARS}\b(?![\s\-]*(?:month|%))"
    rf"|\b(?:under|below|younger\s+than)\s+(?:18|eighteen|{_YEARS})\b(?!\s*(?:[cdkm]?m\b|kg|euro|dollar|degree|minute|percent|%))"
)


class ContentPolicyError(EffaceError):
    """A prompt that the content policy does not allow; the message never holds it."""


@dataclass(frozen=True)
class _Words:
    """The lists: what a word says by the word, the same by stem, harmless phrases, all without spaces, and how words begin.

    ``once`` is ``says`` with every repeated letter once.
    """

    says: dict[str, int]
    once: dict[str, int]
    stems: tuple[tuple[str, int], ...]
    harmless: frozenset[str]
    beginnings: frozenset[str]


@lru_cache(maxsize=1 << 16)
def is_refused(text: str) -> bool:
    """Whether the policy does not allow a text as a prompt."""
    folded = _folded(text)
    said = MINOR if _AGE.search(folded) else 0
    for signs in _SIGNS if re.search(r"[0-9@$!|+]", folded) else _SIGNS[:1]:
        pieces = [piece if piece.isdigit() else piece.translate(signs) for piece in _PIECE.findall(folded)]
        if _says(_without_harmless(pieces)) | said == BOTH:
            return True
    return False


def check_prompts(texts: Iterable[str], what: str = "a prompt") -> None:
    """Checks texts before anything is made of them.

    Args:
        texts: the prompts.
        what: what they are, such as ``the concept's prompts``.

    Raises:
        Refused: one that sexualises minors; the message says which by its number.
    """
    for number, text in enumerate(texts, 1):
        if is_refused(text):
            raise ContentPolicyError(
                f"refused: {what} (number {number}) sexualises minors; efface does not work on such texts (docs/content_policy.md)"
            )


def _says(pieces: list[str]) -> int:
    """What the pieces and their neighbourhoods say together; ``""`` is a border."""
    said = 0
    for start in range(len(pieces)):
        said |= _of_word(pieces[start])
        if not _begins(pieces[start]):
            continue
        joined, short = "", True
        for end in range(start, min(start + _SPELT, len(pieces))):
            short = short and len(pieces[end]) <= 2
            if not pieces[end] or (end - start >= _LONGEST and not short):
                break
            joined += pieces[end]
            said |= _of_joined(joined)
    return said


def _without_harmless(pieces: list[str]) -> list[str]:
    """The pieces with a border in place of every harmless phrase."""
    left, harmless = list(pieces), _words().harmless
    for start in range(len(pieces)):
        for size in (3, 2, 1):
            if "".join(pieces[start : start + size]) in harmless and all(left[start : start + size]):
                left[start : start + size] = [""] * len(left[start : start + size])
    return left


@lru_cache(maxsize=1 << 16)
def _of_word(word: str) -> int:
    """What one word says: in any spelling, by its stem, or as two words of the lists in one."""
    words = _words()
    said = _of_joined(word)
    for stem, says in words.stems:
        if word.startswith(stem):
            said |= says
    if not said and len(word) > 6:
        for cut in range(3, len(word) - 2):
            first, second = (_of_joined(part) for part in (word[:cut], word[cut:]))
            if first | second == BOTH and first and second:
                return BOTH
    return said


@lru_cache(maxsize=1 << 16)
def _begins(piece: str) -> bool:
    """Whether a word of the lists may begin with a piece, by its first three letters."""
    return bool(piece) and _once(piece)[:3] in _words().beginnings


def _once(word: str) -> str:
    return re.sub(r"(.)\1+", r"\1", word)


def _of_joined(word: str) -> int:
    """What a word says, with repeated letters as one, and without a plural's ending."""
    if len(word) < 3:
        return 0
    words, once, said = _words(), _once(word), 0
    drawn_out = re.search(r"(.)\1\1", word) is not None
    for end in ("", "s", "es"):
        said |= words.says.get(word.removesuffix(end), 0) | words.says.get(once.removesuffix(end), 0)
        said |= words.once.get(once.removesuffix(end), 0) if drawn_out else 0
    return said


def _folded(text: str) -> str:
    """Lower case without accents, marks, invisible characters and look-alikes."""
    flat = unicodedata.normalize("NFKD", text).casefold().translate(_LIKE)
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
    every = [(word, value) for name, value in values.items() for word in lists[name]]
    whole = {word: value for word, value in every if not word.endswith("*")}
    stems = tuple((word.rstrip("*"), value) for word, value in every if word.endswith("*"))
    beginnings = frozenset(_once(word)[:length] for word in whole for length in (1, 2, 3))
    return _Words(
        whole, {_once(word): value for word, value in whole.items()}, stems, frozenset(lists["harmless"]), beginnings
    )
