"""Weights to start from: what is taken, what is replaced, and what is refused."""

import argparse
import io
import sys
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from foundation.models import ModelDescription, build, cpu_state, write_model
from foundation.models.initial_weights import (
    InitialWeightsError,
    fitted,
    pixel_constants,
    read_weights,
)


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
    with pytest.raises(InitialWeightsError, match="is there for model=efficientnet_lite0"):
        read_weights("imagenet", "resnet8")


def resnet18(classes=5):
    from torchvision.models import resnet18 as torchvisions

    torch.manual_seed(1)
    return torchvisions(num_classes=classes)


def renamed(state, prefix):
    return {f"{prefix}{name}": value for name, value in state.items()}


WITH_OPTIONS = {"epoch": 3, "args": argparse.Namespace(lr=0.1), "best": np.float64(71.5)}
CHECKPOINTS = {
    "plain.pth": lambda state: state,
    "sorted.pth": lambda state: dict(sorted(state.items())),
    "loop.pth.tar": lambda state: {**WITH_OPTIONS, "state_dict": renamed(state, "module.")},
    "lightning.ckpt": lambda state: {"epoch": 1, "state_dict": renamed(state, "model.")},
    "huggingface.bin": lambda state: renamed(state, "backbone."),
    "nested.pt": lambda state: {"model": {"state_dict": state}, "optimizer": {"state": {}}},
    "twice.pth": lambda state: renamed(state, "module.model."),
    "head_apart.pth": lambda state: {
        **renamed({n: v for n, v in state.items() if not n.startswith("fc.")}, "encoder."),
        "projector.0.weight": torch.zeros(4, 512),
        "projector.2.weight": torch.zeros(4, 4),
    },
    "half.pth": lambda state: {
        n: v.half() if v.is_floating_point() else v for n, v in state.items()
    },
    "no_extension": lambda state: state,
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints_as_people_have_them_are_read_by_what_is_in_them(tmp_path, name):
    given = resnet18().state_dict()
    torch.save(CHECKPOINTS[name](given), tmp_path / name)
    model = build("torchvision/resnet18", classes=3, image_size=64, seed=0)
    read, known = read_weights(str(tmp_path / name), "torchvision/resnet18")
    state, left = fitted(model, read, same_classes=None)
    expected = CHECKPOINTS["half.pth"](given) if name == "half.pth" else given
    for entry, value in expected.items():
        if not entry.startswith("fc."):
            assert torch.equal(state[f"encoder.{entry}"], value.to(state[f"encoder.{entry}"].dtype))
    assert torch.equal(state["head.weight"], model.head.weight)
    assert "the classifier's head is new: the weights are for other classes" in left
    assert known is None


def test_the_old_format_and_safetensors_under_any_name_are_read(tmp_path):
    given = resnet18().state_dict()
    torch.save(given, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(given, tmp_path / "weights.pth")
    for name in ("old.pth", "weights.pth"):
        read, _ = read_weights(str(tmp_path / name), "torchvision/resnet18")
        assert equal(read, given, given)


def test_a_head_whose_classes_the_file_does_not_say_is_not_taken(tmp_path):
    given = cpu_state(network(seed=1))
    save_file(given, tmp_path / "bare.safetensors")
    read, known = read_weights(str(tmp_path / "bare.safetensors"), "resnet8")
    state, left = fitted(network(), read, same_classes=None)
    assert known is None
    assert not torch.equal(state["head.weight"], given["head.weight"])
    assert "does not say for which classes" in left[0]


def test_two_networks_in_one_file_are_not_chosen_from():
    given = resnet18().state_dict()
    model = build("torchvision/resnet18", classes=3, image_size=64)
    with pytest.raises(InitialWeightsError, match=r"'encoder_k\.' and 'encoder_q\.' are two"):
        fitted(model, {**renamed(given, "encoder_q."), **renamed(given, "encoder_k.")})


def test_weights_of_another_architecture_are_refused_with_what_they_hold():
    given = build("resnet8", classes=3).state_dict()
    model = build("torchvision/resnet18", classes=3, image_size=64)
    with pytest.raises(InitialWeightsError, match=r"another network: .* of the 100 entries"):
        fitted(model, given)
    deeper = build("torchvision/resnet34", classes=3, image_size=64)
    with pytest.raises(InitialWeightsError, match="entries belong to another network"):
        fitted(model, cpu_state(deeper))
    quantised = {n: v.to(torch.int8) for n, v in cpu_state(model).items()}
    with pytest.raises(InitialWeightsError, match="quantised"):
        fitted(model, quantised)


def zipped(*names):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name in names:
            file.writestr(name, "content")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>Sign in</html>", "is a web page"),
        (b"\n <html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a pointer of Git LFS"),
        (b"\x89HDF\r\n", "an HDF5 file"),
        (b"\x1f\x8b\x08", "unpack it first"),
        (b'{"metadata": {}}', "a JSON file"),
        (b"GIF89a", "neither safetensors nor a PyTorch checkpoint"),
        (zipped("photo.jpg"), "a zip file without a PyTorch checkpoint"),
        (zipped("model/data.pkl", "model/constants.pkl"), "a TorchScript program"),
        (zipped("model/data.pkl")[:60], "damaged, or was not copied whole"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{ cut", "as a safetensors file"),
    ],
    # A zip file's bytes hold the time: two workers would collect different tests.
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_what_is_no_file_of_weights_is_refused_by_what_it_is(tmp_path, content, message):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(InitialWeightsError, match=message):
        read_weights(str(tmp_path / "weights.pth"), "torchvision/resnet18")


def test_a_pickled_module_is_refused_without_advice_to_run_its_code(tmp_path):
    torch.save(resnet18(), tmp_path / "whole.pth")
    with pytest.raises(InitialWeightsError) as refused:
        read_weights(str(tmp_path / "whole.pth"), "torchvision/resnet18")
    said = str(refused.value)
    assert "holds objects of torchvision.models.resnet.ResNet" in said
    assert "state_dict()" in said
    assert "weights_only" not in said and "\x1b" not in said


def test_pixels_are_to_be_as_the_weights_want_them(tmp_path):
    half = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert pixel_constants("imagenet", "efficientnet_lite0") == half
    assert pixel_constants("any.pth", "torchvision/resnet18")[0] == (0.485, 0.456, 0.406)
    assert pixel_constants("", "torchvision/resnet18") is None
    assert pixel_constants("any.safetensors", "resnet8") is None
    own = ModelDescription("resnet8", 0, ("a", "b"), 3, (32, 32), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    write_model(tmp_path / "model", own, cpu_state(network(classes=2)), "card")
    assert pixel_constants(str(tmp_path), "torchvision/resnet18") == (own.mean, own.std)


def test_a_model_of_ones_own_says_where_its_weights_are_and_what_pixels_they_want(
    tmp_path, monkeypatch
):
    (tmp_path / "model_with_weights.py").write_text(
        "import torch\n"
        "from foundation.models.classifier import Model\n"
        "pixels = ((0.5,), (0.25,))\n"
        "def trained(name):\n"
        "    return {'0.weight': torch.full((2, 3), 4.0), '0.bias': torch.zeros(2)}\n"
        "def build(channels, image_size):\n"
        "    encoder = torch.nn.Sequential(torch.nn.Linear(3, 2))\n"
        "    return encoder, 2\n"
        "mine = Model('mine', build, trained, lambda name: pixels)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = "model_with_weights:mine"
    model = build(name, classes=2, channels=1)
    state, _ = fitted(model, read_weights("imagenet", name)[0], same_classes=None)
    assert torch.equal(state["encoder.0.weight"], torch.full((2, 3), 4.0))
    assert pixel_constants("imagenet", name) == ((0.5,), (0.25,))
