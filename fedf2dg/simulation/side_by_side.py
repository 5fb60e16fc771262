"""How many simulated clients train side by side on a GPU: where it pays, and as memory allows."""

import logging

import torch

from foundation.models import gpus_of
from foundation.processes import CLIENTS_PER_GPU, cores
from foundation.settings.configuration import RunConfiguration
from generation.acceleration import Forward
from strategies import shared_model

log = logging.getLogger("flwr.fedf2dg")

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
    """Return how many clients to train side by side on each GPU, and say why so many.

    Parameters
    ----------
    samples : int
        Training images of all clients.
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
