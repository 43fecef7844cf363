"""The training loop and its inputs: trajectories, latents, the student, checkpoints and progress."""
