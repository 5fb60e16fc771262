"""Benchmarks: the textbook version of every stage against the product's own path."""
