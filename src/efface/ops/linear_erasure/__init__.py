"""Linear concept erasure: affine maps of vectors after which no linear classifier can tell a label, in scikit-learn's manner.

eraser = LeaceEraser().fit(X, z)
X0 = eraser.transform(X)            # torch tensors or numpy arrays; the same kind comes out
"""

from .inlp import InlpEraser
from .leace import LeaceEraser
from .rlace import RlaceEraser

__all__ = ["InlpEraser", "LeaceEraser", "RlaceEraser"]
