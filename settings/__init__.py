"""What every part of a run can be told."""
