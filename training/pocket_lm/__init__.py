"""The training stage of pocket-lm, the embedded language model."""
