"""Weights to start from: what is taken, what is replaced, and what is refused."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from foundation.models import ModelDescription, build, cpu_state, write_model
from foundation.models.initial_weights import InitialWeightsError, fitted, read_weights


def network(seed=0, classes=3, **options):
    return build("resnet8", classes=classes, seed=seed, **options)


def equal(first, second, names):
    return all(torch.equal(first[name], second[name]) for name in names)


def test_a_file_of_the_same_network_is_taken_whole(tmp_path):
    given = cpu_state(network(seed=1))
    save_file(given, tmp_path / "weights.safetensors")
    read, known = read_weights(str(tmp_path / "weights.safetensors"), "resnet8")
    state, left = fitted(network(), read)
    assert equal(state, given, given)
    assert (left, known) == ([], None)


@pytest.mark.parametrize("below", ["model", "model/model.safetensors", "."])
def test_an_earlier_run_tells_its_classes(tmp_path, below):
    given = cpu_state(network(seed=1))
    names = ("ant", "bee", "wasp")
    description = ModelDescription(
        "resnet8", 0, names, 3, (32, 32), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)
    )
    write_model(tmp_path / "model", description, given, "card")
    read, known = read_weights(str(tmp_path / below), "resnet8")
    assert known == description
    assert equal(read, given, given)


@pytest.mark.parametrize(
    ("model", "same"), [(network(classes=5), True), (network(classes=3), False)]
)
def test_a_head_for_other_classes_is_new(model, same):
    given, fresh = cpu_state(network(seed=1)), cpu_state(model)
    state, left = fitted(model, given, same_classes=same)
    head = [name for name in fresh if name.startswith("head.")]
    assert equal(state, fresh, head)
    assert equal(state, given, [name for name in fresh if name not in head])
    assert left == ["the classifier's head is new: the weights are for other classes"]


def test_a_projection_that_is_not_given_is_new_and_one_too_many_is_left_out():
    with_one, without = network(projection_dim=4), network(seed=1)
    state, left = fitted(with_one, cpu_state(without))
    assert equal(state, cpu_state(with_one), [n for n in state if n.startswith("projection.")])
    assert "the projection head is new" in left
    state, _ = fitted(without, cpu_state(with_one))
    assert equal(state, cpu_state(with_one), [n for n in state if n.startswith("encoder.")])


def test_grey_images_see_the_sum_of_the_colours():
    colour = cpu_state(network(seed=1))
    grey = network(channels=1)
    state, left = fitted(grey, colour)
    (first,) = [n for n, v in state.items() if v.shape != colour[n].shape]
    assert torch.equal(state[first], colour[first].sum(1, keepdim=True))
    assert left == ["the first convolution is summed over the colours, for grey images"]


def broken(change):
    state = cpu_state(network(seed=1))
    change(state)
    return state


def remove(state):
    del state["encoder.0.weight"]


def add(state):
    state["encoder.99.weight"] = torch.zeros(1)


def reshape(state):
    state["encoder.0.weight"] = torch.zeros(1, 2, 3, 3)


def spoil(state):
    state["encoder.0.weight"][0] = torch.nan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove, "'encoder.0.weight' is missing"),
        (add, "1 entries belong to another network, the first is 'encoder.99.weight'"),
        (reshape, r"'encoder.0.weight' has shape \(1, 2, 3, 3\) instead of"),
        (spoil, "'encoder.0.weight' holds NaN"),
    ],
)
def test_whatever_else_does_not_fit_is_refused(change, message):
    with pytest.raises(InitialWeightsError, match=message):
        fitted(network(), broken(change))


def test_what_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "text.safetensors").write_text("no weights")
    torch.save({"a": [1, 2]}, tmp_path / "list.pth")
    for name, message in (
        ("missing.safetensors", "cannot be read"),
        ("text.safetensors", "cannot be read"),
        ("list.pth", "holds no weights by name"),
        ("", "holds no model"),
    ):
        with pytest.raises(InitialWeightsError, match=message):
            read_weights(str(tmp_path / name), "resnet8")
    with pytest.raises(InitialWeightsError, match="is for torchvision's models"):
        read_weights("imagenet", "resnet8")
