"""What runs on a client: Flower's handlers, the local training loop, the client's data."""
