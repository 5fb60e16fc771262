"""Trained models in use: load one, ask it about images, hand it to another program."""
