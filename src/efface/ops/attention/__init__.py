"""Cross-attention maps recorded with hooks, and the masks of a concept in an image."""
