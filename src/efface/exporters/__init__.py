"""Exports an erasure for other programs: diffusers folder, component, LoRA or single file."""
