"""Linear concept erasure: affine maps of vectors that hide a label from every linear classifier.

The interface follows scikit-learn and takes torch tensors or numpy arrays:

    eraser = LeaceEraser().fit(X, z)
    X0 = eraser.transform(X)
"""

from .inlp import InlpEraser
from .leace import LeaceEraser
from .rlace import RlaceEraser

__all__ = ["InlpEraser", "LeaceEraser", "RlaceEraser"]
