"""Training of autoregressive image models: prompt pairs, windows of image tokens, and images to retain."""
