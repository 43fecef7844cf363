"""Runs registered methods and attacks, checks an erasure's effect, and packages the result."""

from .attack import attack_batch_size, drop_refused, run_attack
from .composition import save_composed
from .configuration import check_family, resolve_config
from .erasure import run_and_save, run_method, transfer_erasure
from .language import is_language_model

__all__ = [
    "attack_batch_size",
    "check_family",
    "drop_refused",
    "is_language_model",
    "resolve_config",
    "run_and_save",
    "run_attack",
    "run_method",
    "save_composed",
    "transfer_erasure",
]
