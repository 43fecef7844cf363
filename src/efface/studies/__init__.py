"""Studies over many erasures: ablations of a method, and where prompts lie in a text encoder's space."""
