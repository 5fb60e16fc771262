"""The server: Flower's entry point."""

# ruff: noqa: E402
from fedf2dg import prefer_ours

prefer_ours()

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from foundation import say_expected_errors_plainly
from server_app import preflight
from server_app.run import run

from .report import listeners
from .simulation.flower_engine import dead_actor

app = ServerApp()
say_expected_errors_plainly("flwr")


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Check the configuration, then carry out the run."""
    configuration = preflight.parse(context.run_config)
    preflight.check(configuration, simulated=False)
    run(grid, configuration, must_stop=dead_actor, listeners=listeners())
