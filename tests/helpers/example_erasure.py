"""An erasure with edits of three kinds and tensors of three dtypes, for tests of the artifact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from efface.core.concept import Concept
from efface.core.erasure import Cost, Edit, Erasure
from efface.core.spec import RunSpec
from efface.core.tensors import Tensor, TensorBlob

BASE = {"text_encoder": "aa", "unet": {"hash": "bb", "sketch": [0.5]}}
SPEC = RunSpec("pocket", BASE, "esd", {"lr": 1e-5, "ids": (1, 2)}, (Concept("weapon"),), 7)
BF16 = TensorBlob("BF16", (2,), b"\x80\x3f\x00\x40")


def make_erasure(target: str = "layer.0.weight", name: str = "weapon", value: float = 1.0) -> Erasure:
    edits = (
        Edit("text_encoder", "replace", {target: "t"}, gate={"from": 0.5}),
        Edit("unet", "low_rank", {"k.down": "d", "k.up": "u"}, params={"scale": 2.0}),
        Edit("sampler", "guidance", params={"prompts": ["a weapon"]}),
    )
    tensors: dict[str, Tensor] = {"t": np.full((2, 3), value, "f4"), "d": np.ones((1, 2), "f2"), "u": BF16}
    return Erasure(
        replace(SPEC, concepts=(Concept(name),)), edits, tensors, Cost(1.5, None), {"before": 0.9, "after": 0.1}
    )
