"""A whole run in this process: the app's ServerApp and ClientApp on an in-process grid."""

from __future__ import annotations

from typing import Any

from client_app.app import app as client_app
from configuration import RunConfiguration
from server_app.run import run

from .local_grid import LocalGrid


def run_locally(configuration: RunConfiguration) -> dict[str, Any]:
    """Carry out a run without Ray or a SuperLink.

    Returns
    -------
    dict[str, Any]
        The content of ``summary.json``.
    """
    grid = LocalGrid(client_app, configuration.num_clients, configuration.flat())
    return run(grid, configuration)
