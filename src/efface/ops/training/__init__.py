"""The training loop and what it reads: trajectories, the student, checkpoints, progress."""
