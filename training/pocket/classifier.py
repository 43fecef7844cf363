"""Stage ``classifier``: pocket-classifier, trained on pocket's labelled scenes as the method retrain trains it."""

from __future__ import annotations

from pathlib import Path

import torch

from common import save_json
from efface.models.classifier import ClassifierModel
from efface.models.convnet import ConvClassifier
from efface.models.pocket_classifier import TRANSFORM, load_pocket_classifier, save_pocket_classifier
from efface.ops.classifiers.fitting import Recipe, fit
from efface.ops.classifiers.image_set import ImageSet
from efface.ops.classifiers.pocket_images import pocket_images
from efface.ops.training.progress import LineProgress
from efface.ops.training.run import Run

WIDTHS = (16, 32, 64, 96)
BATCH, RATE, DECAY, SHIFT = 48, 4e-3, 0.02, 4


def run(out: Path, *, steps: int = 1200, seed: int = 31) -> None:
    """Trains the classifier, measures its accuracy on both sets, and saves it in ``out/pocket-classifier``."""
    sets = {split: pocket_images(split) for split in ("train", "test")}
    classes = sets["train"].classes
    torch.manual_seed(seed)
    module = ConvClassifier(WIDTHS, len(classes))
    model = ClassifierModel(module, TRANSFORM, classes, "pocket-classifier")
    recipe = Recipe(steps, BATCH, RATE, DECAY, SHIFT)
    folder = out / "run" / "classifier"
    log = Run(seed=seed, folder=folder, resume=folder.is_dir(), key=f"classifier-{seed}", progress=LineProgress())
    labels = torch.tensor(sets["train"].labels)
    fit(module, model, sets["train"].inputs(model), labels, recipe, log, "classifier")
    saved = out / "pocket-classifier"
    saved.mkdir(parents=True, exist_ok=True)
    save_pocket_classifier(module, classes, saved, {}, torch.float16)
    loaded = load_pocket_classifier(saved, "pocket-classifier")
    accuracy = {split: round(accuracy_of(loaded, images), 4) for split, images in sets.items()}
    save_json(saved / "training_card.json", {"accuracy": accuracy, "steps": steps, "batch": BATCH, "seed": seed})
    save_json(folder / "history.json", log.history)
    print(accuracy, flush=True)


@torch.no_grad()
def accuracy_of(model: ClassifierModel, images: ImageSet) -> float:
    """Returns the share of images whose likeliest class is their own."""
    predicted = torch.cat([model.logits(batch).argmax(-1) for batch in images.batches(model)])
    return float((predicted == torch.tensor(images.labels)).float().mean())
