"""What server and clients must agree on, and how they speak to each other."""
