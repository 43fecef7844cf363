"""Targeted erasure with sparse autoencoders (Bussmann et al. 2025, arXiv 2503.17547; SAEBench).

An autoencoder writes a hidden state as features plus an error, h = sum_f a_f d_f + b + e. The concept's features are
set to zero and the error is added back,

    h <- h - scale sum_{f in F} a_f d_f

in the residual stream behind the decoder layers. F holds the features that are most active on texts about the concept
and active on at most ``max_frequency`` of the tokens of other texts, as SAEBench's unlearning test chooses them. The
edit acts on states: no weight changes.

Differences: the paper ranks features by a linear probe; here by mean activation. A feature whose removal changes more
than ``max_loss`` of the answers on texts to keep is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from efface.core.concept import Concept
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.core.tensors import TensorBlob
from efface.models.autoencoder import RESID_POST, Autoencoder, load_autoencoders, select_layers
from efface.models.causal_lm import CausalLM
from efface.ops.language.answer_probe import AnswerProbe
from efface.ops.language.concept_features import activities, rank_features
from efface.ops.language.concept_texts import forget_and_retain_batches
from efface.ops.language.feature_edits import agreement_with, filter_edit
from efface.ops.training.run import Run

CARD = MethodCard(
    name="sae_clamp",
    title="SAE clamp",
    paper="Bussmann et al.: Learning Multi-Level Features with Matryoshka Sparse Autoencoders, ICML 2025",
    arxiv="2503.17547",
    families=("causal_lm",),
    trains="the states behind some layers, by features of autoencoders",
    needs_gradient=False,
    needs_images=False,
    reconstruction=False,
    summary="Sets the concept's features of sparse autoencoders to zero and adds the reconstruction's error back.",
)


@dataclass(frozen=True)
class Config:
    """Settings of the erasure."""

    layers: str = field(default="", metadata={"help": "Layers, such as 1,2; empty: all that have an autoencoder."})
    autoencoders: str = field(default="", metadata={"help": "Folder of autoencoders in SAELens' layout."})
    num_features: int = field(default=20, metadata={"help": "Number of features per layer.", "range": "2 to 500"})
    max_frequency: float = field(default=0.01, metadata={"help": "Largest share of other tokens that activate one."})
    scale: float = field(default=1.0, metadata={"help": "Multiple of the features to subtract; above 1 reverses them."})
    max_loss: float = field(
        default=0.02, metadata={"help": "Share of retained answers that a feature may change; 1 checks none."}
    )
    num_texts: int = field(default=256, metadata={"help": "Number of texts that the model writes."})
    texts_file: str = field(default="", metadata={"help": "File with one text about the concept per line."})
    num_retain_texts: int = field(
        default=0, metadata={"help": "Number of texts to keep that the model writes beside the retain prompts."}
    )
    max_length: int = field(default=128, metadata={"help": "Number of tokens to which texts are cut."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket-lm": {"layers": "0", "scale": 8.0, "max_loss": 1.0, "num_texts": 128, "max_length": 56},
}
PROBE_TEXTS = 48
"""Number of texts to keep whose answers each feature must leave unchanged."""


def sae_clamp(model: CausalLM, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erases the concepts from the states behind some layers."""
    every = load_autoencoders(config.autoencoders, model, RESID_POST)
    autoencoders = select_layers(every, config.layers)
    forget, retain = forget_and_retain_batches(model, concepts, config, run)
    own, other = (activities(model, batches, autoencoders) for batches in (forget, retain))
    probe = AnswerProbe(model, retain.texts, limit=PROBE_TEXTS, max_length=config.max_length)
    edits: list[Edit] = []
    tensors: dict[str, TensorBlob] = {}
    for layer, autoencoder in autoencoders.items():
        ranked = rank_features(own[layer], other[layer], config.max_frequency)[: config.num_features]
        candidates = run.track(f"features of layer {layer}", ranked)
        kept = [
            f
            for f in candidates
            if config.max_loss >= 1 or _loss(model, probe, autoencoder, f, config.scale) <= config.max_loss
        ]
        run.notes[f"features of layer {layer}"] = kept
        if kept:
            edit, blobs = filter_edit(autoencoder, kept, config.scale)
            edits, tensors = [*edits, edit], tensors | blobs
    if not edits:
        raise EffaceError("no feature is active on the concept's texts alone: raise max_frequency or max_loss")
    return run.erasure(edits, tensors)


def _loss(model: CausalLM, probe: AnswerProbe, autoencoder: Autoencoder, feature: int, scale: float) -> float:
    """Returns the share of answers on texts to keep that change without a feature."""
    return 1 - agreement_with(model, probe, *filter_edit(autoencoder, [feature], scale))
