"""The verbs of efface, one module each: erase, attack, evaluate, transfer, revise, export and report."""

from .attack import attack
from .erase import erase
from .evaluate import evaluate
from .export import export
from .report import report
from .revise import revise
from .transfer import transfer

__all__ = ["attack", "erase", "evaluate", "export", "report", "revise", "transfer"]
