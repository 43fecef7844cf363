"""Attacks, one file each: ``def name(model, concept, tasks, config, run) -> AttackSet``; the model has the erasure applied."""
