"""What happened in a run: said once, written to the metrics file, told to whoever follows."""
