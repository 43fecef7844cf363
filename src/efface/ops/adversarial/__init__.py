"""Attacks during training and the context of an attack: embedding attack, warm start, attack context."""
