"""What tests of strategies that remember something of every client measure."""


def error_to(run, target):
    """Return the largest distance of a weight from where it should be."""
    return float((run.state["weight"] - target).abs().max())


def controls_gap(run):
    """Return ‖c - Σ p_i·c_i‖∞ with p_i over all clients known to the server."""
    strategy, known = run.strategy, run.strategy.participants
    total = sum(known[client].num_examples for client in known.clients)
    mean = sum(
        known[client].num_examples / total * strategy.client_control(client)["weight"]
        for client in known.clients
    )
    return float((strategy.control["weight"] - mean).abs().max())
