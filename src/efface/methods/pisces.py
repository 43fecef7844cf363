"""PISCES: precise in-parameter suppression for concept erasure (Gur-Arieh et al. 2025, arXiv 2505.22586).

Features of autoencoders of MLP outputs that stand for the concept are turned against it in the output vectors of the
neurons that write them. Per layer, with the neurons' output vectors w_j and the features F of the concept,

    a_f[j] = w_j . e_f                 J_f = { j : |a_f[j]| > tau max_j |a_f[j]| }        A = max_f max_j |a_f[j]|
    h = encode(w_j),  h_f <- s_f mu A g_j  for the f that selected j,   w_j <- decode(h) + (w_j - decode(encode(w_j)))

e_f is the feature's encoder, s_f = -1 if the feature makes the concept's tokens likelier and +1 if less likely (-1 for
all without ``signed``), and g_j the sign that the neuron's activation mostly has on those tokens. The edit is of low
rank and restores exactly.

F is found automatically: features that are active on texts about the concept and hardly ever on others, whose decoder
row, projected on the vocabulary, has the concept's tokens at its top or bottom. mu and tau are searched on a grid:
the pair that loses most answers about the concept while at least ``min_kept`` of those on texts to keep stay. The
paper asks MMLU and a language model as judge for it; here the model answers its own texts
(`efface.ops.language.answer_probe`).

Differences: the search asks for at most ``max_loss`` changed answers on texts to keep per feature and reads no
benchmark; autoencoders that normalize states are applied to normalized output vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

from efface.core.concept import Concept
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.models.autoencoder import MLP_OUT, load_autoencoders, select_layers
from efface.models.causal_lm import CausalLM
from efface.ops.language.answer_probe import AnswerProbe
from efface.ops.language.concept_texts import forget_and_retain_batches
from efface.ops.language.feature_edits import agreement_with
from efface.ops.language.neuron_suppression import LayerFeatures, find_features, suppression_edits
from efface.ops.training.run import Run

CARD = MethodCard(
    name="pisces",
    title="PISCES",
    paper="Gur-Arieh, Suslik, Hong, Barez, Geva: Precise In-Parameter Concept Erasure in Large Language Models, 2025",
    arxiv="2505.22586",
    families=("causal_lm",),
    trains="the output vectors of some MLP neurons, by features of autoencoders",
    needs_gradient=False,
    needs_images=False,
    reconstruction=False,
    summary="Turns the concept's features of sparse autoencoders against it in the MLPs' output matrices.",
)
STRENGTHS = (1.0, 3.0, 10.0, 30.0)
THRESHOLDS = (0.95, 0.8, 0.4)
PROBE_TEXTS = 48
"""Number of texts, of either kind, whose answers the search reads."""


@dataclass(frozen=True)
class Config:
    """PISCES' hyper-parameters; ``strength`` and ``threshold`` are searched unless they are given."""

    layers: str = field(default="", metadata={"help": "Layers, such as 1,2; empty: all that have an autoencoder."})
    autoencoders: str = field(default="", metadata={"help": "Folder of autoencoders in SAELens' layout."})
    num_features: int = field(default=10, metadata={"help": "Maximum features per layer.", "range": "1 to 50"})
    strength: float = field(default=0.0, metadata={"help": "Strength mu; 0 searches 1 to 30."})
    threshold: float = field(default=0.0, metadata={"help": "Share tau of the largest weight that selects a neuron."})
    max_frequency: float = field(default=0.01, metadata={"help": "Largest share of other tokens that activate one."})
    top_k: int = field(default=20, metadata={"help": "Number of tokens at either end of a feature's projection."})
    min_tokens: int = field(default=2, metadata={"help": "Number of the concept's tokens that an end must hold."})
    min_kept: float = field(default=0.9, metadata={"help": "Share of retained answers that the search keeps."})
    signed: bool = field(
        default=True, metadata={"help": "Turn features round that make the concept's tokens less likely."}
    )
    max_loss: float = field(default=0.02, metadata={"help": "Share of retained answers that a feature may change."})
    num_texts: int = field(default=256, metadata={"help": "Number of texts that the model writes."})
    texts_file: str = field(default="", metadata={"help": "File with one text about the concept per line."})
    num_retain_texts: int = field(
        default=0, metadata={"help": "Number of texts to keep that the model writes beside the retain prompts."}
    )
    max_length: int = field(default=128, metadata={"help": "Number of tokens to which texts are cut."})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket-lm": {
        "layers": "0",
        "num_features": 30,
        "top_k": 60,
        "min_tokens": 1,
        "signed": False,
        "num_texts": 128,
        "max_length": 56,
    },
}


def pisces(model: CausalLM, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Erases the concepts from the MLPs' output matrices."""
    autoencoders = select_layers(load_autoencoders(config.autoencoders, model, MLP_OUT), config.layers)
    forget, retain = forget_and_retain_batches(model, concepts, config, run)
    probes = [AnswerProbe(model, texts.texts, PROBE_TEXTS, config.max_length) for texts in (retain, forget)]
    kept, asked = probes
    found = find_features(
        model, autoencoders, forget, retain, count=config.num_features, max_frequency=config.max_frequency,
        top_k=config.top_k, min_tokens=config.min_tokens, signed=config.signed,
    )  # fmt: skip
    checked = [_harmless(model, layer, kept, config) for layer in run.track("features", found)]
    layers = [layer for layer in checked if layer.features]
    if not layers:
        raise EffaceError("no feature writes the concept's tokens alone: raise max_frequency or max_loss")
    run.notes["features"] = {str(layer.autoencoder.layer): layer.features for layer in layers}

    def score(pair: tuple[float, float]) -> tuple[float, float]:
        edits = suppression_edits(model, layers, *pair)
        unchanged = min(agreement_with(model, kept, *edits), config.min_kept)
        return unchanged, 1 - agreement_with(model, asked, *edits)

    best = max(run.track("strength and threshold", _grid(config)), key=score)
    run.notes["strength and threshold"] = list(best)
    return run.erasure(*suppression_edits(model, layers, *best))


def _grid(config: Config) -> list[tuple[float, float]]:
    """Returns the pairs of strength and threshold to try."""
    strengths = [config.strength] if config.strength else STRENGTHS
    return list(product(strengths, [config.threshold] if config.threshold else THRESHOLDS))


def _harmless(model: CausalLM, layer: LayerFeatures, kept: AnswerProbe, config: Config) -> LayerFeatures:
    """Returns the features whose suppression alone, at the middle of the grid, changes few answers on texts to keep."""
    strength, threshold = _grid(config)[len(_grid(config)) // 2]
    places = []
    for place in range(len(layer.features)):
        edits = suppression_edits(model, [layer.subset([place])], strength, threshold)
        if 1 - agreement_with(model, kept, *edits) <= config.max_loss:
            places.append(place)
    return layer.subset(places)
