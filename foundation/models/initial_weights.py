"""Weights to start from: those of an earlier run, of a file, or trained ones that come by name.

What belongs to other classes or other images is replaced by fresh weights and named; whatever else
does not fit is an error, since a model that is half pretrained by mistake trains without a word.
"""

import json
import math
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from foundation import UsageError
from foundation.members import MODELS

from .checkpoint_files import InitialWeightsError as InitialWeightsError
from .checkpoint_files import read_checkpoint
from .classifier import Classifier, Model, Pixels
from .directory import DESCRIPTION, WEIGHTS, ModelDescription, read_model
from .efficientnet_lite import EfficientNetLite0, named_as_here
from .state import State, cpu_state, first_non_finite
from .torchvision_models import first_convolution

#: The value that asks for the trained weights that a model's makers offer.
IMAGENET = "imagenet"
_HEAD, _PROJECTION, _ENCODER = "head.", "projection.", "encoder."
_COUNTER = "num_batches_tracked"
# Of a vision transformer: its position embedding, which is for one size of images.
_POSITION, _PATCH = "encoder.pos_embedding", 16


def read_weights(source: str, architecture: str) -> tuple[State, ModelDescription | None]:
    """Read weights, and what is known of the model they were, if that is an earlier run's.

    ``source`` is a file of weights, a run's directory or its ``model/``, or ``imagenet``: the
    trained weights for the architecture, from a package or downloaded once. An InitialWeightsError
    says that there are none, or that they cannot be read.
    """
    if source == IMAGENET:
        return _trained_on_imagenet(architecture), None
    path = Path(source)
    try:
        if directory := _run_model(path):
            description, model = read_model(directory)
            return cpu_state(model), description
    except UsageError as error:
        raise InitialWeightsError(f"initial-weights: {error}") from error
    if path.is_dir() and not (path := path / WEIGHTS).is_file():
        raise InitialWeightsError(f"initial-weights = {source!r} holds no model: no {WEIGHTS}")
    return read_checkpoint(path), None


def pixel_constants(source: str, architecture: str) -> Pixels | None:
    """Return the mean and deviation by channel that pixels need for weights; None: not known.

    Those of an earlier run are written down with them. Others are taken to want what the trained
    weights for their architecture want.
    """
    directory = None if source in ("", IMAGENET) else _run_model(Path(source))
    if directory is not None:
        try:
            known = ModelDescription.from_json(json.loads((directory / DESCRIPTION).read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            return None  # which read_weights explains
        return known.mean, known.std
    model = _declared(architecture)
    return model.pixels(architecture) if source and model and model.pixels else None


def _declared(architecture: str) -> Model | None:
    """Return what a model's file declares; None for a function of a user's own."""
    model = MODELS.load(architecture, object)
    return model if isinstance(model, Model) else None


def _run_model(path: Path) -> Path | None:
    """Return the directory of the model that a path leads to, if a run of this project wrote it."""
    if path.name == WEIGHTS:
        path = path.parent
    for directory in (path, path / "model"):
        if (directory / DESCRIPTION).is_file() and (directory / WEIGHTS).is_file():
            try:
                if "format" in json.loads((directory / DESCRIPTION).read_bytes()):
                    return directory
            except (OSError, ValueError, TypeError):
                return directory  # read_model says what is wrong with it
    return None


def _trained_on_imagenet(architecture: str) -> State:
    model = _declared(architecture)
    if model is None or model.trained is None:
        raise InitialWeightsError(
            f"initial-weights = {IMAGENET!r} is there for model=efficientnet_lite0, "
            f"torchvision/NAME and timm/NAME, not for {architecture!r}"
        )
    try:
        return model.trained(architecture)
    except ValueError as error:
        raise InitialWeightsError(str(error)) from error


def fitted(
    model: Classifier,
    given: Mapping[str, Tensor],
    *,
    same_classes: bool | None = True,
) -> tuple[State, list[str]]:
    """Return the state that a model, which has fresh weights, starts from, and what of it is fresh.

    ``given`` is what :func:`read_weights` returns: the encoder's entries under whatever prefix.
    ``same_classes`` says whether its head is for the model's classes, in their order; None: nobody
    knows, and the head is fresh. Sentences name the parts that were not taken, and why. An
    InitialWeightsError names what is missing, unknown, not finite or of another shape in the
    encoder.
    """
    fresh = cpu_state(model)
    given, beside = _by_our_names(given, fresh, model.encoder)
    if broken := first_non_finite(given):
        raise InitialWeightsError(f"initial-weights: {broken!r} holds NaN or infinite values")
    decided, left = _decided_otherwise(model, given, fresh, same_classes)
    state = {**fresh, **decided}
    for name, value in fresh.items():
        if name in decided:
            continue
        if name not in given:
            if name.endswith(_COUNTER):
                continue  # older checkpoints lack it, and nothing depends on it
            raise InitialWeightsError(f"initial-weights: {name!r} is missing")
        if given[name].shape != value.shape:
            raise InitialWeightsError(
                f"initial-weights: {name!r} has shape {tuple(given[name].shape)} instead of "
                f"{tuple(value.shape)}: they belong to another network"
            )
        if value.is_floating_point() and not given[name].is_floating_point():
            raise InitialWeightsError(
                f"initial-weights: {name!r} holds {given[name].dtype}: quantised weights are not "
                "read"
            )
        state[name] = given[name].detach().to(value.dtype).contiguous()
    unknown = [n for n in given if n not in fresh and not n.startswith((_HEAD, _PROJECTION))]
    if unknown:
        raise InitialWeightsError(
            f"initial-weights: {len(unknown)} entries belong to another network, the first is "
            f"{unknown[0]!r}"
        )
    return state, left + beside


def _decided_otherwise(
    model: Classifier, given: Mapping[str, Tensor], fresh: State, same_classes: bool | None
) -> tuple[State, list[str]]:
    """Return the entries that are not taken as they were given, and sentences that say why."""
    decided: State = {}
    left: list[str] = []
    projection = [name for name in fresh if name.startswith(_PROJECTION)]
    if any(name not in given or given[name].shape != fresh[name].shape for name in projection):
        decided.update({name: fresh[name] for name in projection})
        left.append("the projection head is new")
    head = [name for name in fresh if name.startswith(_HEAD)]
    fits = all(name in given and given[name].shape == fresh[name].shape for name in head)
    if not (fits and same_classes):
        decided.update({name: fresh[name] for name in head})
        unsaid = fits and same_classes is None
        left.append(
            "the classifier's head is new: "
            + (
                "the file does not say for which classes its own is (a run's model/ does)"
                if unsaid
                else "the weights are for other classes"
            )
        )
    first = f"{_ENCODER}{first_convolution(model.encoder)}.weight"
    if first in given and first in fresh and given[first].shape != fresh[first].shape:
        old, new = given[first].shape, fresh[first].shape
        if old[0] == new[0] and old[2:] == new[2:] and new[1] == 1:
            # Grey is three equal channels, whose weights add up.
            decided[first] = given[first].sum(dim=1, keepdim=True).to(fresh[first].dtype)
            left.append("the first convolution is summed over the colours, for grey images")
        elif old[0] == new[0] and old[1] == new[1]:
            decided[first] = fresh[first]
            left.append(
                f"the first convolution is new: its window is {new[2]}x{new[3]} for small images, "
                f"not {old[2]}x{old[3]}"
            )
    return decided, left


def _by_our_names(
    given: Mapping[str, Tensor], fresh: State, encoder: nn.Module
) -> tuple[dict[str, Tensor], list[str]]:
    """Give the entries our names, and return sentences about those beside the model.

    A checkpoint names the encoder's entries as the encoder does, behind a prefix of its own, such
    as ``module.`` or ``backbone.``: the one behind which most of them are. Entries of a head are
    left out; in this project's files they stand beside ``encoder.``.
    """
    wanted = [name.removeprefix(_ENCODER) for name in fresh if name.startswith(_ENCODER)]
    if isinstance(encoder, EfficientNetLite0):
        given = named_as_here(given)
    prefix = _prefix(given, [name for name in wanted if not name.endswith(_COUNTER)])
    inside = {n.removeprefix(prefix): value for n, value in given.items() if n.startswith(prefix)}
    position, ours = inside.get(_POSITION), fresh.get(f"{_ENCODER}{_POSITION}")
    if position is not None and ours is not None and position.shape != ours.shape:
        from torchvision.models.vision_transformer import interpolate_embeddings

        side = _PATCH * math.isqrt(ours.shape[1] - 1)
        inside = dict(interpolate_embeddings(side, _PATCH, OrderedDict(inside)))
    head = _head_entries({name: inside[name] for name in inside if name not in wanted}, encoder)
    named = {f"{_ENCODER}{name}": value for name, value in inside.items() if name not in head}
    left_out = 0
    around = prefix.removesuffix(_ENCODER)
    for name, value in given.items():
        if name.startswith(prefix):
            continue
        ours_too = name.removeprefix(around) if prefix.endswith(_ENCODER) else ""
        if ours_too.startswith((_HEAD, _PROJECTION)):
            named[ours_too] = value
        else:
            left_out += 1
    return named, [f"{left_out} entries beside {prefix!r} are left out"] if left_out else []


def _prefix(given: Mapping[str, Tensor], wanted: Sequence[str]) -> str:
    """Return the one prefix behind which a checkpoint holds the entries of an encoder."""
    found: Counter[str] = Counter()
    known = set(wanted)
    for name in given:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in known:
                found["".join(f"{part}." for part in parts[:start])] += 1
    whole = [prefix for prefix, count in found.items() if count == len(wanted)]
    if len(whole) > 1:
        raise InitialWeightsError(
            f"initial-weights: {' and '.join(map(repr, sorted(whole)))} are two networks that both "
            "fit: save the one to use alone"
        )
    prefix, count = max(found.items(), key=lambda item: item[1], default=("", 0))
    if 2 * count < len(wanted):
        raise InitialWeightsError(
            f"initial-weights: they belong to another network: {count} of the {len(wanted)} "
            f"entries of this model's encoder are there. They have {_first(given)}; the model has "
            f"{_first(wanted)}"
        )
    return prefix


def _first(names: Iterable[str]) -> str:
    return ", ".join([*map(repr, list(names)[:3]), "…"])


def _head_entries(extra: Mapping[str, Tensor], encoder: nn.Module) -> set[str]:
    """Return those of the entries an encoder lacks that are of the head it was trained with.

    They stand where the encoder has a placeholder, or are the one linear layer too many.
    """
    layers: dict[str, list[str]] = {}
    for name in extra:
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    placeholders = tuple(
        name for name, module in encoder.named_modules() if isinstance(module, nn.Identity)
    )
    head = {
        name
        for layer, names in layers.items()
        if any(layer == place or layer.startswith(f"{place}.") for place in placeholders)
        for name in names
    }
    if not head and len(layers) == 1:
        ((layer, names),) = layers.items()
        weight = extra.get(f"{layer}.weight")
        if weight is not None and weight.ndim == 2 and len(names) <= 2:
            return set(names)
    return head
