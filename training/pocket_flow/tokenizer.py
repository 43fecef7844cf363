"""The T5 tokenizer: T5's ids for padding and end, one piece for every word of the world, subwords for other words."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from common import WORLD, save_json
from efface.pocket_world import vocabulary
from pocket_flow.model import CONTEXT

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
SUBWORDS = 500
SPACE = "▁"


def pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """Builds T5's pre-tokenizer: words at spaces, each with a leading mark."""
    mark = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always", split=True)
    return pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), mark])


def scored_pieces() -> list[tuple[str, float]]:
    """Returns the pieces with their scores; a word of the world always scores above the subwords it consists of."""
    words = [word.strip(",") for word in vocabulary(WORLD)]
    alphabet = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    trainer = trainers.UnigramTrainer(
        vocab_size=SUBWORDS,
        special_tokens=[PAD, END, UNKNOWN],
        unk_token=UNKNOWN,
        initial_alphabet=[*alphabet, SPACE],
        show_progress=False,
    )
    raw = Tokenizer(models.Unigram())
    raw.pre_tokenizer = pre_tokenizer()
    raw.train_from_iterator(words * 3, trainer)
    subwords = sorted(json.loads(raw.to_str())["model"]["vocab"][3:], key=lambda piece: (-piece[1], piece[0]))
    scores = dict.fromkeys([PAD, END, UNKNOWN], 0.0) | {SPACE + word: -1.0 for word in words}
    scores |= {piece: score - 10 for piece, score in subwords if piece not in scores}
    return list(scores.items())


def build_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Builds the tokenizer and saves it in ``folder``."""
    raw = Tokenizer(models.Unigram(scored_pieces(), unk_id=2))
    raw.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    raw.pre_tokenizer = pre_tokenizer()
    raw.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always")
    raw.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", pair=f"$A {END} $B {END}", special_tokens=[(END, 1)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=END, pad_token=PAD, unk_token=UNKNOWN, model_max_length=CONTEXT
    )
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    # transformers 5 writes the name of a class that transformers 4 does not have; both read this name.
    save_json(path, {**config, "tokenizer_class": "PreTrainedTokenizerFast"})
    return PreTrainedTokenizerFast.from_pretrained(folder)
