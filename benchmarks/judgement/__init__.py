"""Which rule the clients should judge by, found by simulation with known test accuracies."""
