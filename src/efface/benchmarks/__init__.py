"""Benchmarks: prompts, seeds, sampler, detectors and metrics as versioned YAML; what runs them; and the pictures that all metrics share."""
