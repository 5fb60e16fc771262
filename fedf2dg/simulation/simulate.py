"""A whole run on this machine, from a configuration to its summary."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO, cast

from fedf2dg.console import logged_to
from fedf2dg.simulation import ENGINES, Engine
from foundation.settings.configuration import ConfigurationError, RunConfiguration
from server_app import preflight, run_directory


def simulate(
    configuration: RunConfiguration, engine: Engine = "local", output: TextIO | None = None
) -> dict[str, Any]:
    """Carry out a run on this machine, to the end; return the content of ``summary.json``.

    Parameters
    ----------
    engine : {"local", "flower"} (default: "local")
        local: without Ray and without a server. flower: ``flwr run`` with Ray.
    output : TextIO or None (default: None)
        Receives the log, line by line. None: it goes where the logger ``flwr`` sends it (local), or
        nowhere (flower); a run's directory always holds all that was measured.

    Raises
    ------
    ExpectedError
        If the configuration cannot work (``UsageError``, before any work), or the run failed.

    Examples
    --------
    >>> from fedf2dg import RunConfiguration, simulate
    >>> summary = simulate(RunConfiguration(strategy="fedavg", num_server_rounds=2))
    >>> summary["accuracy"]["competed"]  # doctest: +SKIP
    """
    if engine not in ENGINES:
        raise ConfigurationError(f"engine = {engine!r}: choose one of {', '.join(ENGINES)}")
    parsed = preflight.parse(configuration.flat())
    for section in ("generation", "distillation"):
        if getattr(parsed, section) != getattr(configuration, section):
            # Clients and other processes are sent keys and nothing else.
            raise ConfigurationError(
                f"{section} has values that no key of a run can hold: "
                f"{getattr(configuration, section)}"
            )
    if engine == "flower" and parsed.device.startswith("cuda:"):
        raise ConfigurationError(
            f"device = {parsed.device!r} cannot be kept by the engine flower, where Ray gives out "
            f"the GPUs: use device=cuda and show it that one alone "
            f"(CUDA_VISIBLE_DEVICES={parsed.device[5:]}), or --engine local"
        )
    preflight.check(parsed, simulated=True)
    # Named here: processes of the Flower engine have working directories of their own.
    directory = parsed.output_dir or str(run_directory.claim(parsed))
    placed = replace(parsed, output_dir=directory)
    if engine == "local":
        from .local_run import run_locally

        with logged_to(output):
            return run_locally(placed)
    return _through_flower(placed, output)


def _through_flower(configuration: RunConfiguration, output: TextIO | None) -> dict[str, Any]:
    from foundation.models import gpu_shares

    from .flower_engine import FlowerRunError, run_through_flower

    directory = Path(configuration.output_dir)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        run_through_flower(
            configuration.flat(),
            configuration.num_clients,
            output or nowhere,
            directory / "flower.log",
            len(gpu_shares(configuration.device)),
        )
    try:
        return cast(dict[str, Any], json.loads((directory / "summary.json").read_text("utf-8")))
    except FileNotFoundError as error:
        raise FlowerRunError(
            f"Flower says the run completed, but {directory} holds no summary.json"
        ) from error
