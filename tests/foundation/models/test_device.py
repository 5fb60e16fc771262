"""What the key ``device`` means, on machines with and without GPUs (PyTorch is told how many)."""

import logging
import time
from dataclasses import replace
from typing import Any

import pytest
import torch

from fedf2dg.simulation import flower_engine, local_run
from fedf2dg.simulation.simulate import simulate
from foundation.models import gpu_shares, resolve_device
from foundation.processes import WorkerPool, Workers, suitable
from foundation.settings.configuration import ConfigurationError, RunConfiguration

GB = 10**9


def with_gpus(count: int) -> None:
    torch.cuda.is_available = lambda: count > 0
    torch.cuda.device_count = lambda: count


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)
    return int(request.param)


@pytest.mark.parametrize(
    ("gpus", "name", "device", "shares"),
    [
        (0, "auto", "cpu", 0),
        (2, "cpu", "cpu", 0),
        (1, "auto", "cuda", 1),
        (2, "auto", "cuda", 2),
        (2, "cuda", "cuda", 2),
        (2, "cuda:1", "cuda:1", 1),
    ],
    indirect=["gpus"],
)
def test_a_name_means_a_device_and_what_its_processes_are_told(
    gpus: int, name: str, device: str, shares: int
) -> None:
    assert resolve_device(name) == torch.device(device)
    assert len(gpu_shares(name)) == shares


@pytest.mark.parametrize(
    ("gpus", "name", "said"),
    [
        (0, "cuda", "no usable CUDA device"),
        (0, "cuda:1", "no usable CUDA device"),
        (2, "cuda:2", r"device = 'cuda:2', but this machine has cuda:0, cuda:1"),
    ],
    indirect=["gpus"],
)
def test_a_gpu_that_is_not_there_is_refused(gpus: int, name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        resolve_device(name)
    with pytest.raises(ConfigurationError, match=said):
        simulate(RunConfiguration(device=name))


@pytest.mark.parametrize("name", ["cuda:", "cuda:-1", "cuda:x", "gpu", "cuda:1.0"])
def test_a_name_that_is_no_device_is_refused_with_the_choices(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name!r}.*auto, cpu, cuda, cuda:N"):
        RunConfiguration.parse({"device": name})
    assert RunConfiguration.parse({"device": "cuda:12"}).device == "cuda:12"


def own_device(report: Any, name: str) -> str:
    with_gpus(2)  # in a process of its own
    time.sleep(0.5)  # so that nobody takes two
    return str(resolve_device(name))


@pytest.mark.parametrize("gpus", [2], indirect=True)
def test_processes_take_the_gpus_in_turn(gpus: int) -> None:
    with Workers(3, gpu_shares("auto")) as workers:
        for key in ("a", "b", "c"):
            workers.submit(key, own_device, "auto")
        found = []
        while workers.free < workers.count:
            found += [event.value for event in workers.events() if event.done]
    assert sorted(found) == ["cuda:0", "cuda:0", "cuda:1"]


def test_each_gpu_gets_a_process_and_more_share_them() -> None:
    assert suitable(0, 10, 0.0, gpus=2) == 2
    assert suitable(0, 1, 0.0, gpus=2) == 1
    assert suitable(6, 10, 0.0, gpus=2) == 6
    assert suitable(0, 10, 1e20, gpus=1) == 1


@pytest.mark.parametrize("gpus", [2], indirect=True)
def test_the_local_engine_and_the_server_start_a_process_for_each_gpu(
    gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: (80 * GB, 80 * GB))
    assert local_run._processes(RunConfiguration(num_clients=10)) == 2
    assert local_run._processes(RunConfiguration(num_clients=10, device="cuda:1")) == 1
    pool = WorkerPool(0, gpu_shares("auto"))
    workers = pool.workers(tasks=10, operations=0.0)
    assert workers is not None and workers.count == 2
    assert WorkerPool(0, gpu_shares("cuda:0")).workers(tasks=10, operations=1e20) is None


LONG = RunConfiguration(num_clients=9, num_server_rounds=1000)
FULL = {"model": "resnet18", "batch_size": 2048, "num_server_rounds": 10_000}


@pytest.mark.parametrize("gpus", [2], indirect=True)
@pytest.mark.parametrize(
    ("changes", "cores", "free", "count", "reason"),
    [
        ({}, 16, (80, 90), 8, "more gain little"),
        ({}, 6, (80, 90), 6, "no more processors"),
        ({}, 16, (90, 3.5), 4, "3.5 GB are free"),
        ({}, 16, (90, 1), 2, "1.0 GB are free"),
        ({"num_clients": 7}, 16, (80, 90), 6, "no more clients"),
        ({"num_server_rounds": 2}, 16, (80, 90), 2, "the run is short"),
        (FULL, 16, (80, 90), 2, "one fills it"),
        ({"device": "cuda:0"}, 16, (80, 90), 4, "more gain little"),
        ({"processes": 5}, 16, (80, 90), 5, ""),
    ],
)
def test_clients_share_a_gpu_where_that_pays_and_memory_holds_them(
    gpus: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
    cores: int,
    free: tuple[float, float],
    count: int,
    reason: str,
) -> None:
    monkeypatch.setattr(local_run, "cores", lambda: cores)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: (int(free[gpu] * GB), 90 * GB))
    with caplog.at_level(logging.INFO):
        assert local_run._processes(replace(LONG, **changes)) == count
    assert reason in caplog.text and ("Side by side" in caplog.text) == bool(reason)


@pytest.mark.parametrize(
    ("cores", "nodes", "gpus", "share"),
    [
        (16, 10, 1, "0.25"),
        (16, 10, 2, "0.25"),
        (2, 10, 1, "0.5"),
        (3, 10, 1, "0.3333"),
        (4, 4, 4, "1"),
    ],
)
def test_the_actors_of_a_simulation_share_the_gpus(
    monkeypatch: pytest.MonkeyPatch, cores: int, nodes: int, gpus: int, share: str
) -> None:
    monkeypatch.setattr(flower_engine, "cores", lambda: cores)
    said = flower_engine.federation_settings(nodes, gpus).split()
    assert f"client-resources-num-gpus={share}" in said
    assert "num-gpus" not in flower_engine.federation_settings(nodes)


@pytest.mark.parametrize("gpus", [2], indirect=True)
def test_the_flower_engine_cannot_be_told_which_gpu(gpus: int) -> None:
    with pytest.raises(ConfigurationError, match=r"CUDA_VISIBLE_DEVICES=1"):
        simulate(RunConfiguration(device="cuda:1"), "flower")
