"""Cross-attention maps by hooks, and the masks of a concept in an image."""
