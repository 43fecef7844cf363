"""The text tokenizer: one piece for every word of the world, subwords for other words, and Janus's special tokens."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from pocket_flow.tokenizer import END, PAD, SPACE, UNKNOWN, pre_tokenizer, scored_pieces

START = "<s>"
IMAGE_START, IMAGE_END, IMAGE = "<begin_of_image>", "<end_of_image>", "<image_placeholder>"


def build_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Builds the tokenizer, which starts every text with ``<s>``, and saves it in ``folder``."""
    raw = Tokenizer(models.Unigram(scored_pieces(), unk_id=2))
    raw.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    raw.pre_tokenizer = pre_tokenizer()
    raw.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always")
    raw.add_special_tokens([PAD, END, UNKNOWN, START, IMAGE_START, IMAGE_END, IMAGE])
    raw.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", pair=f"{START} $A $B", special_tokens=[(START, raw.token_to_id(START))]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        extra_special_tokens={"boi_token": IMAGE_START, "eoi_token": IMAGE_END, "image_token": IMAGE},
        padding_side="left",
        model_max_length=64,
    )
    tokenizer.save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Loads the tokenizer of a training folder; builds it first if there is none."""
    if not (folder / "tokenizer.json").exists():
        build_tokenizer(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)
