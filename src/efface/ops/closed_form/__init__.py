"""Closed-form editing of what reads the text: one factorisation for all layers (see `solve`)."""

from .artifact import FORMS, Diagnostics, diagnose, edit_of, edited, layered_edit, low_rank_edit, smaller_edits
from .bank import EmbeddingBank
from .co_occurring import co_occurring, matched
from .filter import PromptFilter, shared_matrix
from .fusion import Fusion
from .gram import GramAccumulator, encoder_mark, mean_caption
from .low_rank import LowRank
from .null_space import Refined, k_means, null_space
from .pairing import TOKENS, naming, pairs_of, sentences
from .places import Places, places_of, read_places
from .solve import Invariants, Pairs, Preserve, Problem
from .statistics import Kept, Statistics

__all__ = [
    "FORMS",
    "TOKENS",
    "Diagnostics",
    "EmbeddingBank",
    "Fusion",
    "GramAccumulator",
    "Invariants",
    "Kept",
    "LowRank",
    "Pairs",
    "Places",
    "Preserve",
    "Problem",
    "PromptFilter",
    "Refined",
    "Statistics",
    "co_occurring",
    "diagnose",
    "edit_of",
    "edited",
    "encoder_mark",
    "k_means",
    "layered_edit",
    "low_rank_edit",
    "matched",
    "mean_caption",
    "naming",
    "null_space",
    "pairs_of",
    "places_of",
    "read_places",
    "sentences",
    "shared_matrix",
    "smaller_edits",
]
