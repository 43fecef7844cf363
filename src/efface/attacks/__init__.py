"""Attacks, one file each: ``def name(model, concept, tasks, config, run) -> AttackSet``, with the erasure applied."""
