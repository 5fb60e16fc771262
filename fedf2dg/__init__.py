"""What a user calls: the command, the engines, comparisons, and the kit for real sites."""
