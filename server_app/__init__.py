"""What runs on the server: the run's story, the post-training hook, checkpoints and resume."""
