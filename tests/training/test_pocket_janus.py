"""Training of pocket-janus: image tokens, captions and the loss, on a few scenes and an untrained model."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from common import TRAIN_SCENES
from efface.models.janus import JanusModel
from efface.models.patch_image_tokenizer import FOLDER, PatchImageTokenizer
from efface.pocket_world import Scene
from pocket_janus.batches import UNKNOWN, Batch, Batches, fact_indices, sample_caption
from pocket_janus.image_tokens import NUM_CODES, PATCH, SIDE, cluster_means, k_means, training_scenes
from pocket_janus.model import WIDTH, build_model
from pocket_janus.tokenizer import load_tokenizer
from pocket_janus.train import READ, learning_rate, losses, write
from pocket_janus.validation import prompt_ids


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    return load_tokenizer(tmp_path_factory.mktemp("janus"))


def test_every_word_of_a_caption_is_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    rng = np.random.default_rng(0)
    for scene in TRAIN_SCENES[::200]:
        text = sample_caption(scene, 0.7, rng)
        ids, _ = prompt_ids(tokenizer, [text])
        words = tokenizer.convert_ids_to_tokens(ids[0])
        assert (words[0], words[-1]) == ("<s>", "<begin_of_image>")
        assert "<unk>" not in words
        assert "".join(words[1:-1]).replace("▁", " ").strip() == text.lower()


def test_k_means_finds_separate_clusters() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    patches = centres.repeat_interleave(20, 0) + 0.1 * torch.randn(60, 2, generator=torch.Generator().manual_seed(1))
    clusters = k_means(patches, 3, iterations=20, generator=torch.Generator().manual_seed(3))
    means, counts = cluster_means(patches, clusters, 3)
    assert counts.tolist() == [20, 20, 20]
    assert torch.cdist(means, centres).min(1).values.max() < 0.2


def test_the_rate_rises_stays_and_falls() -> None:
    rates = [learning_rate(step, 1000, 1.0, 0.2) for step in (0, 59, 500, 900, 999)]
    assert rates == pytest.approx([1 / 60, 1.0, 1.0, 0.5, 0.01])


def two_images(tokenizer: PreTrainedTokenizerFast, *, hidden: bool) -> Batch:
    """Two captions, the second without a known object, with random images that later tokens see or not."""
    ids, mask = prompt_ids(tokenizer, ["a photo of a cat", "a mosaic of a dog in the snow"])
    image = torch.randint(NUM_CODES, (2, SIDE * SIDE), generator=torch.Generator().manual_seed(2))
    facts = torch.tensor([fact_indices(Scene("cat", "snow", "photo")), [UNKNOWN] * 3])
    return Batch(ids, mask, image, torch.full(image.shape, hidden), facts)


def test_hidden_tokens_do_not_reach_later_ones(tokenizer: PreTrainedTokenizerFast) -> None:
    model = build_model(tokenizer, torch.rand(NUM_CODES, 3 * PATCH * PATCH), seed=1)
    reader = torch.nn.Linear(WIDTH, sum(READ))
    for hidden in (False, True):
        batch = two_images(tokenizer, hidden=hidden)
        _, loss = losses(model, reader, batch)
        _, other = losses(model, reader, replace(batch, image=batch.image.flip(0)))
        assert torch.equal(loss, other) is hidden


def test_samples_drop_captions_and_hide_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = torch.zeros(1, len(training_scenes()), SIDE * SIDE, dtype=torch.int16)
    batch = Batches(tokenizer, tokens, 200, primary_share=0.7).sample(np.random.default_rng(0))
    dropped = batch.facts[:, 0] == UNKNOWN
    assert 0.04 < dropped.double().mean() < 0.17
    no_words = {tokenizer.pad_token_id, *prompt_ids(tokenizer, [""])[0].flatten().tolist()}
    assert set(batch.ids[dropped].unique().tolist()) == no_words
    assert 0.4 < (~batch.hidden.any(1)).double().mean() < 0.6
    assert 0.2 < batch.hidden.double().mean() < 0.3


def test_the_written_folder_loads_and_generates(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    from efface.models.loading import load_model

    codebook = torch.rand(NUM_CODES, 3 * PATCH * PATCH, generator=torch.Generator().manual_seed(0)) * 2 - 1
    model = build_model(tokenizer, codebook, seed=1)
    loss, reading = losses(model, torch.nn.Linear(WIDTH, sum(READ)), two_images(tokenizer, hidden=False))
    assert 7 < float(loss.detach()) < 10  # about log(4096): the untrained model does not prefer a code
    assert reading.tolist() == pytest.approx([math.log(classes) for classes in READ], rel=0.25)
    write(model, tmp_path)
    tokenizer.save_pretrained(tmp_path)
    PatchImageTokenizer(codebook, SIDE).save(tmp_path / FOLDER)
    loaded = load_model(tmp_path)
    assert isinstance(loaded, JanusModel)
    assert loaded.sample(["a photo of a cat"], seeds=[0]).shape == (1, 3, 64, 64)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 12e6
