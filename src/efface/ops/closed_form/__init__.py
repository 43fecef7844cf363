"""Closed-form editing of what reads the text: one factorisation for all layers (see `solve`)."""

from .artifact import FORMS, Diagnostics, diagnose, edit_of, layered_edit, low_rank_edit
from .bank import EmbeddingBank
from .filter import PromptFilter, shared_matrix
from .gram import GramAccumulator, encoder_mark
from .low_rank import LowRank
from .null_space import Refined, k_means, null_space
from .pairing import TOKENS, pairs_of, sentences
from .places import Places, places_of, read_places
from .solve import Invariants, Pairs, Preserve, Problem
from .statistics import Kept, Statistics

__all__ = [
    "FORMS",
    "TOKENS",
    "Diagnostics",
    "EmbeddingBank",
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
    "diagnose",
    "edit_of",
    "encoder_mark",
    "k_means",
    "layered_edit",
    "low_rank_edit",
    "null_space",
    "pairs_of",
    "places_of",
    "read_places",
    "sentences",
    "shared_matrix",
]
