"""Benchmarks of image classifiers: accuracy, distance to retraining, membership inference."""
