"""Benchmarks for language models: questions about a concept, its neighbours and the rest, before and after."""
