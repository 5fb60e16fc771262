"""A whole run on this machine: the app's ServerApp and ClientApp on an in-process grid."""

import sys
from typing import Any

import torch
from flwr.clientapp import ClientApp

from client_app.app import app as client_app
from client_app.site import BFLOAT16_FROM, model_operations
from fedf2dg.report import listeners
from fedf2dg.simulation.local_grid import LocalGrid, ParallelGrid
from foundation.errors import log
from foundation.messages.exchange import update_console_handler
from foundation.models import gpu_shares, gpus_of, resolve_device
from foundation.models.device import reduced_type
from foundation.processes import CLIENTS_PER_GPU, Workers, cores, suitable
from foundation.settings.configuration import RunConfiguration
from generation.acceleration import Forward
from server_app.run import run
from strategies import shared_model


def run_locally(configuration: RunConfiguration) -> dict[str, Any]:
    """Carry out a run without Ray or a SuperLink; return the content of ``summary.json``."""
    processes = _processes(configuration)
    if processes == 1:
        grid = LocalGrid(client_app, configuration.num_clients, configuration.flat())
        return run(grid, configuration, listeners=listeners())
    # Where this has to be measured: here, and handed down, so that all clients train in one type.
    operations = model_operations(configuration, configuration.data_set.describe())
    device = resolve_device(configuration.device)
    reduced_type(configuration.precision, device, operations, BFLOAT16_FROM)
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


# The following are estimates. Floating-point operations of a step that leaves no room on a GPU.
_FILLS_A_GPU = 1e11
# Local steps of a run, some milliseconds each, that are worth the start of processes.
_WORTH_PROCESSES = 1e4
# Bytes of a process's CUDA context and of what libraries keep.
_CONTEXT = 1.0e9
# Float32 numbers in a step: for each parameter (it, its gradient and momentum, and what an
# algorithm holds beside them), and for each number that a layer puts out. A recorded step has
# memory of its own beside that of steps as they are.
_FOR_A_PARAMETER, _FOR_AN_OUTPUT = 12, 8


def clients_per_gpu(configuration: RunConfiguration, samples: int) -> int:
    """Return how many clients, of so many training ``samples`` in all, to train on each GPU.

    It says why so many: where it pays, and as memory allows.
    """
    description, gpus = configuration.data_set.describe(), gpus_of(configuration.device)
    model = shared_model(configuration, description)
    forward = Forward.of(model, description.image_shape)
    batch = configuration.batch_size
    parameters = sum(parameter.numel() for parameter in model.parameters())
    height, width = description.image_size
    numbers = (
        _FOR_A_PARAMETER * parameters
        + _FOR_AN_OUTPUT * batch * forward.values
        + samples * height * width  # a pixel of three bytes takes four
    )
    need = _CONTEXT + 4.0 * numbers
    free = min(torch.cuda.mem_get_info(gpu)[0] for gpu in gpus)
    passes = configuration.num_server_rounds * configuration.local_epochs
    steps = passes * configuration.fraction_train * samples / batch
    limits = {
        "more gain little": CLIENTS_PER_GPU,
        "the run is short": CLIENTS_PER_GPU if steps >= _WORTH_PROCESSES else 1,
        "one fills it": CLIENTS_PER_GPU if 3 * batch * forward.operations < _FILLS_A_GPU else 1,
        # The server works there, too.
        f"{free / 1e9:.1f} GB are free and one needs {need / 1e9:.1f}": int(free // need) - 1,
        "there are no more processors": cores() // len(gpus),
        "there are no more clients": configuration.clients_per_round // len(gpus),
    }
    reason = min(limits, key=lambda each: limits[each])
    count = max(1, limits[reason])
    log.info("Side by side on each GPU: %d, since %s (processes=N: N in all).", count, reason)
    return count
