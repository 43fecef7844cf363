"""Closed-form editing of what reads the text: one factorisation for all layers (see `solve`)."""

from .co_occurring import align_tokens, co_occurring
from .embedding_cache import EmbeddingCache
from .fusion import Fusion
from .gram import GramAccumulator, encoder_mark, mean_caption
from .low_rank import LowRank
from .null_space import PriorRefinement, k_means, null_space
from .prompt_filter import PromptFilter, shared_matrix
from .solve import Invariants, Pairs, Preserve, Problem
from .state_pairs import TOKENS, build_pairs, concept_prompts, prompts_naming
from .statistics import PreservedStates, Statistics
from .to_edits import (
    EDIT_FORMATS,
    Diagnostics,
    diagnose,
    edited_weights,
    layered_edit,
    low_rank_edit,
    smallest_exact_edits,
    to_edit,
)
from .token_positions import TokenPositions, parse_positions, token_positions

__all__ = [
    "EDIT_FORMATS",
    "TOKENS",
    "Diagnostics",
    "EmbeddingCache",
    "Fusion",
    "GramAccumulator",
    "Invariants",
    "LowRank",
    "Pairs",
    "Preserve",
    "PreservedStates",
    "PriorRefinement",
    "Problem",
    "PromptFilter",
    "Statistics",
    "TokenPositions",
    "align_tokens",
    "build_pairs",
    "co_occurring",
    "concept_prompts",
    "diagnose",
    "edited_weights",
    "encoder_mark",
    "k_means",
    "layered_edit",
    "low_rank_edit",
    "mean_caption",
    "null_space",
    "parse_positions",
    "prompts_naming",
    "shared_matrix",
    "smallest_exact_edits",
    "to_edit",
    "token_positions",
]
