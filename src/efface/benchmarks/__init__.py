"""Benchmarks: versioned YAML files, image generation with one shared cache, and evaluation with all metrics."""
