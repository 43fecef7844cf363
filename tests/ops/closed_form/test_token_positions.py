"""Token positions for the three kinds of tokenizers of image models' text encoders."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from efface.ops.closed_form import EmbeddingCache, TokenPositions, tokenize_with_positions

WORDS = ["a", "cat", "dog", "of", "the"]


def build_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """``clip``: beginning, text, end, padding with the end's id; ``t5``: text, end, pad; ``llama``: beginning, text."""
    special = {"clip": ["<s>", "</s>"], "t5": ["<pad>", "</s>"], "llama": ["<s>", "<pad>"]}[kind]
    vocab = {token: i for i, token in enumerate([*special, "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    single = {"clip": "<s> $A </s>", "t5": "$A </s>", "llama": "<s> $A"}[kind]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[(t, vocab[t]) for t in special if t in single]
    )
    names = {"clip": ("<s>", "</s>", "</s>"), "t5": (None, "</s>", "<pad>"), "llama": ("<s>", None, "<pad>")}[kind]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=names[0], eos_token=names[1], pad_token=names[2], unk_token="<unk>"
    )


@pytest.mark.parametrize(
    ("kind", "cat", "empty"),
    [
        ("clip", TokenPositions(6, (1, 2), 0, 3, (4, 5)), TokenPositions(6, (), 0, 1, (2, 3, 4, 5))),
        ("t5", TokenPositions(6, (0, 1), None, 2, (3, 4, 5)), TokenPositions(6, (), None, 0, (1, 2, 3, 4, 5))),
        ("llama", TokenPositions(6, (1, 2), 0, None, (3, 4, 5)), TokenPositions(6, (), 0, None, (1, 2, 3, 4, 5))),
    ],
)
def test_positions_of_a_text_and_of_an_empty_one(kind: str, cat: TokenPositions, empty: TokenPositions) -> None:
    _, positions = tokenize_with_positions(build_tokenizer(kind), ["a cat", ""], 6)
    assert positions == [cat, empty]
    assert [p.last for p in positions] == [cat.content[-1], {"clip": 1, "t5": 0, "llama": 0}[kind]]


def test_padding_on_the_left() -> None:
    left = build_tokenizer("llama")
    left.padding_side = "left"
    _, positions = tokenize_with_positions(left, ["a cat"], 6)
    assert positions == [TokenPositions(6, (4, 5), 3, None, (0, 1, 2))]


def test_an_embedding_cache_over_other_text_encoders() -> None:
    torch.manual_seed(0)
    t5 = T5EncoderModel(T5Config(vocab_size=8, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)).eval()
    llama = LlamaModel(
        LlamaConfig(vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    ).eval()
    for kind, encoder in (("t5", t5), ("llama", llama)):
        cache = EmbeddingCache.for_encoder(build_tokenizer(kind), encoder, length=6)
        assert cache.states("a cat").shape == (6, 16)
        assert cache.states("a cat").dtype == torch.float64
        assert cache.positions("the dog").content == ((0, 1) if kind == "t5" else (1, 2))
