"""The server: Flower's entry point."""

from __future__ import annotations

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from . import preflight
from .run import run

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Check the configuration, then carry out the run."""
    configuration = preflight.parse(context.run_config)
    preflight.check(configuration, simulated=False)
    run(grid, configuration)
