"""The verbs of efface, one module each, such as erase, attack, evaluate, compose and export."""

from .attack import attack
from .compare import compare
from .compose import compose
from .coreferences import propose_coreferences
from .erase import erase
from .evaluate import evaluate
from .export import export
from .new_benchmark import new_benchmark
from .report import report
from .revise import revise
from .transfer import transfer

__all__ = [
    "attack", "compare", "compose", "erase", "evaluate", "export", "new_benchmark", "propose_coreferences", "report",
    "revise", "transfer",
]  # fmt: skip
