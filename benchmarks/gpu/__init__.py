"""Everything that is worth measuring on a GPU, in one command that keeps to a time limit."""
