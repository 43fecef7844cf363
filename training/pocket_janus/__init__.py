"""Training of pocket-janus, the autoregressive model of pocket's scenes."""
