"""Benchmarks: prompts, seeds, sampler, detectors and metrics as versioned YAML; what runs them; and the images that all metrics share."""
