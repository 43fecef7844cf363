"""An erasure as files that other programs load: a diffusers folder, a component, a LoRA, a single file."""
