"""A plain Flower app that classifies handwritten digits."""
