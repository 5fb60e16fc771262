"""What a section accepts, its stage accepts: sections at the ends of their ranges are carried out.

Each value that a declaration permits at an end of its range, alone and in random combinations, is
given to the stage itself, on a model of a few hundred parameters.
"""

from dataclasses import fields
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

from distillation import distil
from foundation import settings
from foundation.settings import (
    ConfigurationError,
    DistillationSettings,
    InversionSettings,
    KeyInfo,
    Section,
)
from foundation.settings.configuration import RunConfiguration, key_table
from generation import invert

SECTIONS = [
    value
    for value in vars(settings).values()
    if isinstance(value, type) and issubclass(value, Section) and value is not Section
]

# What some values are refused without: a bias cannot be told from class means.
COMPANIONS = {("from_", source): {"of": "head"} for source in ("means", "moments", "covariances")}

# Sizes, whose ends make the stage small or large and nothing else, and the compiler, which is slow.
TINY = {"iterations": 2, "epochs": 1, "compile": "off"}


def ends(info: KeyInfo, default: Any) -> list[Any]:
    """Values at the ends of a setting's range, or all its choices."""
    if info.kind is bool:
        return [True, False]
    if info.choices:
        return list(info.choices)
    near = 1 if info.kind is int else 1e-6
    found = [default]
    for end, inwards in (
        (info.minimum, 0),
        (info.maximum, 0),
        (info.above, near),
        (info.below, -near),
    ):
        if end is not None:
            found.append(info.kind(end + inwards))
    return found


def ends_of(section: type[Section]) -> dict[str, list[Any]]:
    return {
        entry.name: ends(entry.metadata["info"], entry.default)
        for entry in fields(section)  # type: ignore[arg-type]
        if entry.name not in TINY
    }


def every_end(section: type[Section]) -> list[Any]:
    return [
        pytest.param({name: value}, id=f"{name}={value}")
        for name, values in ends_of(section).items()
        for value in values
    ]


def combinations(section: type[Section]) -> Any:
    return st.fixed_dictionaries(
        {name: st.sampled_from(values) for name, values in ends_of(section).items()}
    )


def model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3)
    ).eval()


def carry_out_inversion(given: dict[str, Any]) -> None:
    told = InversionSettings(**{"iterations": 2, "compile": "off", **given})
    result = invert(model(0), torch.tensor([0, 2]), (1, 8, 8), told, global_model=model(1), seed=0)
    assert torch.isfinite(result.images).all() and torch.isfinite(result.logits).all()


def carry_out_distillation(given: dict[str, Any]) -> None:
    torch.manual_seed(2)
    told = DistillationSettings(**{"epochs": 1, **given})
    result = distil(model(0), torch.randn(5, 1, 8, 8), torch.randn(5, 3), told, seed=0)
    assert all(torch.isfinite(value).all() for value in result.model.state_dict().values())


@pytest.mark.parametrize("given", every_end(InversionSettings))
def test_an_inversion_accepts_every_end(given: dict[str, Any]) -> None:
    carry_out_inversion(given)


@pytest.mark.parametrize("given", every_end(DistillationSettings))
def test_a_distillation_accepts_every_end(given: dict[str, Any]) -> None:
    carry_out_distillation(given)


@hypothesis_settings(max_examples=25, deadline=None)
@given(combinations(InversionSettings))
def test_an_inversion_accepts_ends_together(given: dict[str, Any]) -> None:
    carry_out_inversion(given)


@hypothesis_settings(max_examples=25, deadline=None)
@given(combinations(DistillationSettings))
def test_a_distillation_accepts_ends_together(given: dict[str, Any]) -> None:
    carry_out_distillation(given)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_is_declared_in_full_and_refuses_what_is_outside(
    section: type[Section],
) -> None:
    defaults = section()
    for entry in fields(section):  # type: ignore[arg-type]
        info: KeyInfo = entry.metadata["info"]
        assert info.meaning.endswith(".")
        for value in ends(info, entry.default):
            made = section(**{entry.name: value}, **COMPANIONS.get((entry.name, value), {}))
            assert getattr(made, entry.name) == value
        outside: list[Any] = [object(), "nothing that there is"]
        if info.minimum is not None:
            outside.append(info.kind(info.minimum - 1))
        if info.above is not None:
            outside.append(info.kind(info.above))
        if info.maximum is not None:
            outside.append(info.kind(info.maximum + 1))
        if info.kind is float:
            outside += [float("nan"), float("inf")]
        for value in outside:
            with pytest.raises(ConfigurationError, match=entry.name):
                section(**{entry.name: value})
    assert defaults == section()


def test_the_configuration_holds_the_very_objects_that_stages_are_given() -> None:
    configuration = RunConfiguration.parse({"generation.iterations": 7, "competition.weight": 4.0})
    assert isinstance(configuration.distillation, DistillationSettings)
    common, competition = configuration.generation, configuration.competition
    assert common.of_kind("common", competition) is common
    hard = common.of_kind("hard", competition)
    assert (hard.iterations, hard.competition_weight) == (7, 4.0)


def test_keys_are_declared_once_and_library_settings_are_no_keys() -> None:
    names = [name for name, _, _ in key_table()]
    assert len(names) == len(set(names))
    assert "generation.iterations" in names and "generation.jitter" not in names
    with pytest.raises(ConfigurationError, match=r"unknown key 'generation\.jitter'"):
        RunConfiguration.parse({"generation.jitter": 1})
    assert RunConfiguration.parse(RunConfiguration().flat()) == RunConfiguration()
