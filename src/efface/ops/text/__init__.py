"""Prompts, templates, the tokens of a concept, and distances between text encoder states."""
