"""A whole run on this machine: the app's ServerApp and ClientApp on an in-process grid."""

import sys
from typing import Any

from flwr.clientapp import ClientApp

from client_app.app import app as client_app
from client_app.site import model_operations, reduced_type
from fedf2dg.report import listeners
from foundation.messages.exchange import update_console_handler
from foundation.models import gpu_shares, gpus_of, resolve_device
from foundation.processes import Workers, suitable
from foundation.settings.configuration import RunConfiguration
from server_app.run import run

from .local_grid import LocalGrid
from .parallel_grid import ParallelGrid
from .side_by_side import clients_per_gpu


def run_locally(configuration: RunConfiguration) -> dict[str, Any]:
    """Carry out a run without Ray or a SuperLink; return the content of ``summary.json``."""
    processes = _processes(configuration)
    if processes == 1:
        grid = LocalGrid(client_app, configuration.num_clients, configuration.flat())
        return run(grid, configuration, listeners=listeners())
    # Where this has to be measured: here, and handed down, so that all clients train in one type.
    operations = model_operations(configuration, configuration.data_set.describe())
    reduced_type(configuration.precision, resolve_device(configuration.device), operations)
    with Workers(processes, gpu_shares(configuration.device)) as workers:
        parallel = ParallelGrid(
            _client_app,
            configuration.num_clients,
            workers,
            configuration.flat(),
            configuration.round_timeout,
        )
        return run(parallel, configuration, workers, listeners=listeners())


def _client_app() -> ClientApp:
    """Return the app in a process of its own, whose warnings go where this process's would."""
    update_console_handler(colored=sys.stderr.isatty())
    return client_app


def _processes(configuration: RunConfiguration) -> int:
    """Return how many processes the clients' training is worth; 1 means this one alone."""
    tasks = configuration.clients_per_round
    if configuration.processes:
        return suitable(configuration.processes, tasks, 0.0)
    samples = len(configuration.data_set.load("train"))
    if configuration.train_samples:
        samples = min(samples, configuration.train_samples)
    if gpus := gpus_of(configuration.device):
        return suitable(len(gpus) * clients_per_gpu(configuration, samples), tasks, 0.0)
    # A step costs about three forward passes.
    passes = 3 * configuration.num_server_rounds * configuration.local_epochs
    forward = model_operations(configuration, configuration.data_set.describe())
    return suitable(0, tasks, passes * configuration.fraction_train * samples * forward)
