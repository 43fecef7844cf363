"""ItD: interpret then deactivate (arXiv 2503.09446).

A TopK sparse autoencoder reads the states behind one layer of the text encoder. Features that are among the
``top_features`` of the concept's phrases, and of no retain prompt, are the concept's:

    F = union over the concept's phrases of top(phrase)  minus  union over retain prompts of top(prompt)

where top(p) holds the features with the largest value at any position but BOS. At sampling time these features are
multiplied by ``strength`` (``style_strength`` if all concepts are styles, which also have more top features), and the
autoencoder's output takes the place of the states if its error

    m(p) = mean over positions and channels of (x' - x)^2

reaches the threshold: 0.99 times the least error of the concept's prompts. Other prompts keep their states bit for bit.
The base weights stay as they are; the erasure holds the autoencoder.

Differences: the autoencoder is trained in the run, on prompts of the model's own vocabulary in templates, on the
concept's prompts and on the retain prompts, or was trained before (``autoencoder``); the authors' are trained on
captions once for many concepts, with 524,288 features. SDXL's two text encoders have an autoencoder each, with its own
features and threshold; the authors' code is for one. All prompts have the whole context's length, where the published
code pads to the longest in the batch. Its threshold for identities compares another mean than the gate, and its styles
another strength; here both are the gate's own. ``quantile`` is ours: that share of the concept's prompts may lie below
the threshold. In a small autoencoder the concept's features do not fire in some of them, and the least error is then
below that of other prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from efface.core.concept import Concept, distinct_retain_prompts
from efface.core.edits import Edit
from efface.core.erasure import Erasure
from efface.core.errors import EffaceError
from efface.core.method_card import MethodCard
from efface.core.tensors import TensorBlob
from efface.models.editable import EditableModel
from efface.ops.editing.autoencoder import deactivation_errors, largest_features
from efface.ops.editing.inserted_modules import resolve_layer
from efface.ops.editing.text_autoencoder import load_text_autoencoder
from efface.ops.tensor_conversion import to_blob
from efface.ops.text.erase_prompts import collect_erase_prompts
from efface.ops.text.vocabulary_prompts import vocabulary_prompts
from efface.ops.training.run import Run
from efface.ops.training.topk_autoencoder import TopKAutoencoder, layer_states

CARD = MethodCard(
    name="itd",
    title="ItD",
    paper="Interpret then Deactivate: Concept Erasing by Sparse Autoencoders of the Text Encoder, 2025",
    arxiv="2503.09446",
    families=("sd1", "sd2", "sdxl"),
    trains="a sparse autoencoder behind a layer of the text encoder",
    needs_gradient=True,
    needs_images=False,
    reconstruction=False,
    summary="Reverses the concept's features in a sparse autoencoder of the text encoder, for prompts that hold them.",
)


@dataclass(frozen=True)
class Config:
    """ItD's hyper-parameters; the paper's autoencoder has 524,288 features, which is nearly the UNet's size."""

    autoencoder: str = field(
        default="",
        metadata={"help": "Trained autoencoder: a folder, an ItD erasure or shipped; empty: trained in the run."},
    )
    layer: int = field(default=8, metadata={"help": "Layer of the text encoder, from 0, whose states are changed."})
    second_layer: int = field(default=21, metadata={"help": "Layer of SDXL's second text encoder, from 0."})
    num_features: int = field(default=16384, metadata={"help": "Number of features.", "range": "1024 to 524288"})
    num_active: int = field(default=64, metadata={"help": "Number of features of a state above 0."})
    num_dead: int = field(default=256, metadata={"help": "Number of dead features that learn what others leave."})
    dead_after: int = field(default=200, metadata={"help": "Steps without firing after which a feature is dead."})
    steps: int = field(default=4000, metadata={"help": "Number of training steps.", "range": "200 to 1000"})
    warmup_steps: int = field(default=1000, metadata={"help": "Steps in which the learning rate rises."})
    learning_rate: float = field(
        default=1e-4, metadata={"help": "Learning rate of the optimiser.", "range": "1e-6 to 1e-3"}
    )
    batch_size: int = field(default=50, metadata={"help": "Number of training samples per step."})
    num_words: int = field(default=4096, metadata={"help": "Number of the vocabulary's words in training prompts."})
    top_features: int = field(default=128, metadata={"help": "Number of features of a phrase.", "range": "32 to 256"})
    strength: float = field(default=-8.0, metadata={"help": "Factor of the concept's features.", "range": "-8 to 0"})
    style_top_features: int = field(default=256, metadata={"help": "Number of features of a style's phrase."})
    style_strength: float = field(default=-8.0, metadata={"help": "Factor of a style's features.", "range": "-8 to 0"})
    threshold_factor: float = field(
        default=0.99, metadata={"help": "Threshold relative to the least error of the concept's prompts."}
    )
    quantile: float = field(
        default=0.0,
        metadata={"help": "Quantile of the concept's errors that is its least.", "range": "0 to 0.2"},
    )
    num_templates: int = field(
        default=0, metadata={"help": "Number of templates from the library.", "range": "0 to 66"}
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "pocket": {
        "autoencoder": "shipped",
        "layer": 2,
        "num_features": 2048,
        "num_active": 16,
        "steps": 400,
        "warmup_steps": 100,
        "learning_rate": 1e-3,
        "top_features": 16,
        "strength": -5.0,
        "style_top_features": 24,
        "style_strength": -2.0,
        "quantile": 0.04,
        "num_templates": 66,
    },
}


def itd(model: EditableModel, concepts: Sequence[Concept], config: Config, run: Run) -> Erasure:
    """Trains or loads the autoencoder of each text encoder, selects the features and calibrates the threshold."""
    if not 0 <= config.quantile < 1:
        raise EffaceError(f"a quantile is from 0 to below 1, not {config.quantile}")
    if all(concept.kind == "style" for concept in concepts):
        config = replace(config, top_features=config.style_top_features, strength=config.style_strength)
    edits: list[Edit] = []
    blobs: dict[str, TensorBlob] = {}
    for component, index in (("text_encoder", config.layer), ("text_encoder_2", config.second_layer)):
        if component in model.components:
            edit, own = _edit(model, component, f"encoder.layers.{index}", concepts, config, run)
            edits.append(edit)
            blobs |= own
    return run.erasure(edits, blobs)


def _edit(
    model: EditableModel, component: str, name: str, concepts: Sequence[Concept], config: Config, run: Run
) -> tuple[Edit, dict[str, TensorBlob]]:
    """Returns the autoencoder of one text encoder with the concept's features, and its tensors."""
    encoder, suffix = model.components[component], component.removeprefix("text_encoder")
    layer = encoder.get_submodule(resolve_layer(encoder, name, f"an autoencoder in {component}"))
    prompts, _ = collect_erase_prompts(concepts, config.num_templates)
    retained = distinct_retain_prompts(concepts)
    if config.autoencoder:
        tensors = load_text_autoencoder(
            config.autoencoder, model, component, name, config.num_features, config.num_active
        )
    else:
        texts = [*prompts, *retained, *vocabulary_prompts(model, config.num_words)]
        tensors = train_autoencoder(layer_states(model, layer, texts), config, run, suffix)
    words = [word for concept in concepts for word in concept.words]
    count, active, strength = config.top_features, config.num_active, config.strength
    chosen = largest_features(layer_states(model, layer, words), tensors, active, count)
    kept = layer_states(model, layer, retained) if retained else None
    if kept is not None:
        chosen &= ~largest_features(kept, tensors, active, count)
    if not bool(chosen.any()):
        raise EffaceError(
            f"every feature of the concept is a retain prompt's, too: raise top_features above {count}, "
            "or give fewer retain prompts"
        )
    tensors["features"] = chosen.nonzero()[:, 0].to(torch.int32)
    errors = deactivation_errors(layer_states(model, layer, prompts), tensors, active, strength)
    lowest = float(torch.quantile(errors, config.quantile))
    others = 0.0 if kept is None else float(deactivation_errors(kept, tensors, active, strength).max())
    threshold = config.threshold_factor * lowest
    run.record(f"gate{suffix}", {"concept": lowest, "retained": others, "features": float(chosen.sum())})
    params = {"kind": "autoencoder", "active": active, "strength": strength, "threshold": threshold}
    roles = {f"{name}.{role}": f"autoencoder{suffix}.{role}" for role in tensors}
    blobs = {f"autoencoder{suffix}.{role}": to_blob(tensor) for role, tensor in tensors.items()}
    return Edit(component, "module", roles, params=params), blobs


def train_autoencoder(states: Tensor, config: Config, run: Run, suffix: str = "") -> dict[str, Tensor]:
    """Trains on the states of all positions of batches of prompts, ``(P, L, D)``; returns the tensors by role."""
    autoencoder = TopKAutoencoder(
        states.flatten(0, 1), config.num_features, config.num_active, config.num_dead,
        run.generator(f"autoencoder{suffix}"),
    )  # fmt: skip
    parameters, extra = autoencoder.parameters, {"autoencoder": autoencoder}
    optimiser = torch.optim.Adam(parameters.values(), lr=config.learning_rate, eps=6.25e-10)
    for step in run.steps(config.steps, parameters, optimiser, phase=f"train{suffix}", extra_state=extra):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step.index + 1) / max(1, config.warmup_steps))
        rows = torch.randint(len(states), (config.batch_size,), generator=run.generator(f"batch{suffix}"))
        step.backward(autoencoder.loss(states[rows.to(states.device)].flatten(0, 1), config.dead_after))
        autoencoder.remove_radial_gradient()
        step.update()
        autoencoder.normalise()
    return {role: tensor.detach() for role, tensor in parameters.items()}
