"""The verbs of efface, one module each: erase, attack, evaluate, transfer, revise, export, report, new_benchmark."""

from .attack import attack
from .compare import compare
from .erase import erase
from .evaluate import evaluate
from .export import export
from .new_benchmark import new_benchmark
from .report import report
from .revise import revise
from .transfer import transfer

__all__ = ["attack", "compare", "erase", "evaluate", "export", "new_benchmark", "report", "revise", "transfer"]
