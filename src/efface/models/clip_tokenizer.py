"""CLIP's tokenizer, built from the merges that ship with efface: checkpoints in one file have none."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files
from typing import Any

from transformers import CLIPTokenizer

BOS, EOS = "<|startoftext|>", "<|endoftext|>"


@cache
def _merges() -> tuple[tuple[str, str], ...]:
    """Reads the merges of CLIP's byte-pair encoding, most frequent first."""
    compressed = files("efface.models").joinpath("data", "original", "clip_merges.txt.gz").read_bytes()
    lines = gzip.decompress(compressed).decode("utf-8").splitlines()
    return tuple((first, second) for first, second in (line.split() for line in lines))


def clip_tokenizer(pad: str = EOS) -> Any:
    """Builds CLIP's tokenizer: 49,408 tokens and a context length of 77.

    The vocabulary is the 256 bytes, the same with the end-of-word marker, the merged pairs, and the tokens of begin
    and end of text.

    Args:
        pad: the padding token.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    unprintable = [byte for byte in range(256) if byte not in printable]
    # Byte-level encoding shows an unprintable byte as a letter beyond the first 256 code points.
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(unprintable))]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in _merges()), BOS, EOS]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=list(_merges()), pad_token=pad, model_max_length=77)
