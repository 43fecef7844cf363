"""The tokenizer: byte-level BPE on lower-cased text, trained on the corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from .corpus import text

START, END, PAD = "<s>", "</s>", "<pad>"
VOCABULARY = 1536
NUM_TEXTS = 30_000


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Trains the tokenizer on ``NUM_TEXTS`` texts; it starts every text with ``<s>``."""
    rng = np.random.default_rng([seed, 1])
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[PAD, START, END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator((text(rng) for _ in range(NUM_TEXTS)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", pair=f"{START} $A $B", special_tokens=[(START, tokenizer.token_to_id(START))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=END, pad_token=PAD, model_max_length=512
    )


def load_tokenizer(folder: Path, seed: int) -> PreTrainedTokenizerFast:
    """Loads the tokenizer of a training folder; trains and saves it first if there is none."""
    if not (folder / "tokenizer.json").exists():
        build_tokenizer(seed).save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)
