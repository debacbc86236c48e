"""What trainings share: checkpoints, resuming, curves."""
