"""Cells share exactly the stages that their differing keys do not touch."""

from collections.abc import Callable

import pytest

from fedf2dg.compare import Plan
from fedf2dg.compare.plan import identity, share
from foundation.settings.configuration import STAGES

ReadPlan = Callable[..., Plan]


@pytest.mark.parametrize(
    ("key", "shared"),
    [
        ("learning-rate=0.01,0.1", ()),
        ("num-server-rounds=1,2", ()),
        ("device=cpu,auto", ()),
        ("generation.iterations=5,6", ("train",)),
        ("label-counts=uploaded,uniform", ("train",)),
        ("distillation.weight=0.1,1", ("train", "generate")),
        ("competition.weight=0,10", ("train", "generate", "distil")),
    ],
)
def test_what_two_values_of_a_key_share(plan: ReadPlan, key: str, shared: tuple[str, ...]) -> None:
    runs = share(plan(key).cells)
    beginnings = [run for run in runs if not run.cells]
    assert [run.path for run in beginnings] == ([shared] if shared else [])
    for run in runs:
        if run.cells:
            assert run.stages == ",".join(STAGES[len(shared) :])
            assert run.start is (beginnings[0] if shared else None)


def test_seeds_share_nothing(plan: ReadPlan) -> None:
    runs = share(plan("seed=0..2").cells)
    assert len(runs) == 3 and all(run.stages == ",".join(STAGES) for run in runs)


def test_a_cell_that_ends_early_serves_those_that_go_on(plan: ReadPlan) -> None:
    text = """
        [variant.short]
        stages = "train,generate,distil"
        [variant.long]
        [variant.longer]
        competition.rounds = 2
    """
    short, long, longer = share(plan(toml=text).cells)
    assert (short.stages, short.start) == ("train,generate,distil", None)
    assert (long.stages, longer.stages) == ("compete", "compete")
    assert long.start is short and longer.start is short
    assert short.served == 3


def test_equal_cells_are_one_run(plan: ReadPlan) -> None:
    runs = share(plan(toml="[variant.a]\n[variant.b]\ndistillation.weight = 0.1").cells)
    assert len(runs) == 1
    assert [cell.method.name for cell in runs[0].cells] == ["a", "b"]


def test_every_run_stands_behind_the_one_it_starts_from(plan: ReadPlan) -> None:
    runs = share(
        plan(
            "seed=0..1",
            "strategy=fedavg,moon",
            "generation.iterations=1,2",
            "distillation.weight=0.1,1",
        ).cells
    )
    for place, run in enumerate(runs):
        assert run.start is None or run.start in runs[:place]
        assert run.cells or len(run.followers) > 1
        assert run.name.endswith(run.identity)
    # 2 seeds x 2 strategies: one training, two generations, four cells each
    assert len(runs) == 4 * (1 + 2 + 4)


def test_identity_ignores_where_a_run_lies_and_knows_its_engine(plan: ReadPlan) -> None:
    settings = plan().cells[0].configuration.flat()
    name = identity(settings, STAGES)
    moved = settings | {"output-dir": "elsewhere", "resume-from": "x", "stages": "compete"}
    assert identity(moved, STAGES) == name
    assert identity(settings, STAGES, "flower") != name
    assert identity(settings, STAGES[:3]) != name
    assert identity(settings | {"competition.rounds": 9}, STAGES[:3]) == identity(
        settings, STAGES[:3]
    )
