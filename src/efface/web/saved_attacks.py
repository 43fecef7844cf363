"""The prompts of an erasure's saved attacks, and those nearest to a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from efface.core.attack_set import ATTACK, AttackSet
from efface.core.evaluation_evidence import ATTACKS
from efface.core.manifest import EVIDENCE
from efface.core.temporary_files import complete_files


@dataclass(frozen=True)
class SavedAttack:
    """A prompt of a saved attack.

    Attributes:
        erasure: Label of the attacked erasure.
        attack: Label of the attack.
        prompt: The prompt that the attack found.
        seed: Seed of its image.
    """

    erasure: str
    attack: str
    prompt: str
    seed: int


def read_saved_attacks(folder: Path, erasure: str) -> tuple[SavedAttack, ...]:
    """Reads the prompts of all attacks in an erasure's folder that can be typed: none with embeddings of no word.

    Raises:
        EffaceError: an attack set was changed, or the content policy refuses one of its prompts.
    """
    sets = [AttackSet.load(path.parent) for path in complete_files(folder / EVIDENCE / ATTACKS, ATTACK)]
    labels = [attack_set.folder.name if attack_set.folder else attack_set.attack for attack_set in sets]
    return tuple(
        SavedAttack(erasure, label, row.adversarial_prompt, row.seed)
        for label, attack_set in zip(labels, sets, strict=True)
        for row in attack_set.prompts
        if row.soft is None
    )


def nearest_attacks(prompt: str, attacks: Sequence[SavedAttack], count: int) -> list[tuple[SavedAttack, float]]:
    """Returns the attacks nearest to a prompt with their similarity in [0, 1], the nearest first.

    Texts are compared by the cosine of the TF-IDF weights of their pieces of two to four letters within words: the
    attacks change letters and words, and pieces of letters match both.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    distinct = list({(attack.erasure, attack.attack, attack.prompt): attack for attack in attacks}.values())
    if not distinct or not prompt.strip():
        return []
    weights = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4)).fit_transform(
        [prompt, *(attack.prompt for attack in distinct)]
    )
    similarities = (weights[1:] @ weights[0].T).toarray()[:, 0]
    order = sorted(range(len(distinct)), key=lambda i: -similarities[i])[:count]
    return [(distinct[i], float(similarities[i])) for i in order if similarities[i] > 0]
