"""Closed-form edits of the layers that read the text: one factorisation for all layers (see `solve`)."""

from .co_occurring import align_tokens, co_occurring_pairs
from .diagnostics import Diagnostics, diagnose, solve_and_record
from .embedding_cache import EmbeddingCache
from .fusion import Fusion
from .gram import GramAccumulator, encoder_hash, mean_caption_gram
from .low_rank import LowRankUpdate
from .null_space import PriorRefinement, k_means, null_space
from .problem import Invariants, Pairs, Preserve
from .prompt_filter import PromptFilter, shared_matrix
from .solve import Problem
from .state_pairs import POSITION_CHOICES, build_pairs, concept_pairs, concept_prompts, prompts_naming
from .statistics import PreservedStates, Statistics
from .to_edits import EDIT_FORMATS, edited_weights, layered_edit, low_rank_edit, smallest_exact_edits, to_edit
from .token_positions import TokenPositions

__all__ = [
    "EDIT_FORMATS",
    "POSITION_CHOICES",
    "Diagnostics",
    "EmbeddingCache",
    "Fusion",
    "GramAccumulator",
    "Invariants",
    "LowRankUpdate",
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
    "co_occurring_pairs",
    "concept_pairs",
    "concept_prompts",
    "diagnose",
    "edited_weights",
    "encoder_hash",
    "k_means",
    "layered_edit",
    "low_rank_edit",
    "mean_caption_gram",
    "null_space",
    "prompts_naming",
    "shared_matrix",
    "smallest_exact_edits",
    "solve_and_record",
    "to_edit",
]
