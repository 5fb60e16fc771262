"""What runs on the server: the run's story, post-training, checkpoints and resume."""
