"""Losses that retain the behaviour on retain prompts: relation graph, prediction loss of the most drifted prompts."""
