"""Closed-form editing of what reads the text: one factorisation for all layers (see `solve`)."""

from .co_occurring import co_occurring, matched
from .embedding_cache import EmbeddingBank
from .fusion import Fusion
from .gram import GramAccumulator, encoder_mark, mean_caption
from .low_rank import LowRank
from .null_space import Refined, k_means, null_space
from .prompt_filter import PromptFilter, shared_matrix
from .solve import Invariants, Pairs, Preserve, Problem
from .state_pairs import TOKENS, naming, pairs_of, sentences
from .statistics import Kept, Statistics
from .to_edits import FORMS, Diagnostics, diagnose, edit_of, edited, layered_edit, low_rank_edit, smaller_edits
from .token_positions import Places, places_of, read_places

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
