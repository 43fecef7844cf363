"""Stage ``text_autoencoder``: the autoencoder of pocket's text encoder that ItD reads, with ItD's settings for pocket.

It learns prompts of all words of the vocabulary and no concept's, so that one autoencoder serves every erasure.
"""

from __future__ import annotations

from pathlib import Path

from common import save_json
from efface.core.config import build_config
from efface.methods.itd import PRESETS, Config, train_autoencoder
from efface.models.fingerprint import fingerprint
from efface.models.loading import load_model
from efface.ops.editing.inserted_modules import resolve_layer
from efface.ops.editing.text_autoencoder import TextAutoencoder
from efface.ops.text.vocabulary_prompts import vocabulary_prompts
from efface.ops.training.progress import LineProgress
from efface.ops.training.run import Run
from efface.ops.training.topk_autoencoder import layer_states

COMPONENT = "text_encoder"


def run(out: Path, *, steps: int | None = None, seed: int = 0) -> None:
    """Trains the autoencoder and saves it in ``out/pocket-sae``."""
    config = build_config(Config, PRESETS, "pocket", {"steps": steps} if steps else {})
    loaded = load_model("pocket")
    encoder, name = loaded.components[COMPONENT], f"encoder.layers.{config.layer}"
    layer = encoder.get_submodule(resolve_layer(encoder, name, "an autoencoder"))
    folder = out / "run" / "text_autoencoder"
    log = Run(seed, loaded.device, folder, LineProgress(), key=f"text-autoencoder-{seed}", resume=folder.is_dir())
    texts = vocabulary_prompts(loaded, config.num_words)
    tensors = train_autoencoder(layer_states(loaded, layer, texts), config, log)
    saved = out / "pocket-sae"
    TextAutoencoder(COMPONENT, name, config.num_active, tensors, fingerprint(encoder)).save(saved, loaded.name)
    losses = [round(row["loss"], 4) for row in log.history["train"]]
    card = {"steps": config.steps, "batch": config.batch_size, "seed": seed, "prompts": len(texts)}
    save_json(saved / "training_card.json", {**card, "loss": sum(losses[-20:]) / len(losses[-20:])})
    save_json(folder / "history.json", log.history)
