"""Whatever a peer sends, its decoder refuses it by its own error or returns what was asked for.

14,000 hostile inputs with --all, and a tenth of them without: valid ones with bytes, headers,
types, shapes, names and numbers changed, and inputs made of nothing.
"""

import random
import re
import tracemalloc
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from foundation.data import DataError, DataSet
from foundation.data.agreement import from_values, to_values
from foundation.messages.content import Received
from foundation.messages.participants import Participant
from foundation.messages.records import InvalidContent, from_record, names_in, packed, to_record
from foundation.models import State, build, cpu_state
from foundation.models.batch_norm import InputMoments
from foundation.models.class_statistics import ClassSums
from questions.batch_norm import BatchNormRequest, MeasuredInputs
from questions.class_statistics import ClientStatistics, StatisticsRequest
from questions.description import DescriptionRequest
from questions.label_counts import LabelCountsRequest
from questions.pseudo_images import PseudoImagesRequest
from tests import sampling

PER_EXAMPLE = 20
fuzz = settings(
    max_examples=sampling.share(140, 14),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
seeds = st.integers(0, 2**32 - 1)

STATE = {
    "weight": torch.randn(3, 4),
    "running_var": torch.ones(3),
    "steps": torch.tensor(7),
    "half": torch.ones(2, dtype=torch.float16),
    "none": torch.empty(0, 4),
}
NUMBERS = [0, 1, -1, 2**31, 2**63 - 1, -(2**63), 10**12, 255]
FLOATS = [0.0, -0.0, 1e308, -1e308, float("nan"), float("inf"), 5e-324, 3.4e38]
TEXTS = ["", "\0", "é" * 1000, "__class__", "float32", "<f4", "|O", "O", "numpy.ndarray", "../x"]


def mutated_bytes(draw: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        kind = draw.randrange(7)
        place = draw.randrange(len(changed) + 1)
        if kind == 0 and changed:
            changed[place % len(changed)] = draw.randrange(256)
        elif kind == 1:
            changed[place:place] = draw.randbytes(draw.randint(1, 40))
        elif kind == 2:
            del changed[place : place + draw.randint(1, 40)]
        elif kind == 3:
            changed = changed[:place]
        elif kind == 4:
            changed = bytearray(b"PK\x03\x04") + changed  # numpy opens zip archives, too
        elif kind == 5:
            changed = bytearray(
                draw.choice([b"\x80\x04.", b"", b"\x93NUMPY", b"\x93NUMPY\x03\x00"])
            )
        else:
            text = bytes(changed).replace(
                draw.choice([b"(3, 4)", b"False", b"<f4", b"(3,)"]),
                draw.choice([b"(9999999999999,)", b"True", b"|O8", b"(-1,)", b"<f8", b"((((((("]),
            )
            changed = bytearray(text)
    return bytes(changed)


def header_of(dtype: str, shape: tuple[int, ...]) -> bytes:
    stream = BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return stream.getvalue()


def hostile_record(draw: random.Random, record: ArrayRecord) -> ArrayRecord:
    arrays = dict(record)
    name = draw.choice(list(arrays))
    array = arrays[name]
    kind = draw.randrange(6)
    if kind == 0:
        del arrays[name]
    elif kind == 1:
        arrays[draw.choice(TEXTS) + name] = array
    elif kind == 2:
        shape = tuple(draw.choice([0, 1, 3, 4, 10**12, -1]) for _ in range(draw.randrange(4)))
        dtype = draw.choice(["float32", "int64", "object", "float64"])
        arrays[name] = Array(dtype, shape, array.stype, array.data)
    elif kind == 3:
        arrays[name] = Array(array.dtype, array.shape, draw.choice(TEXTS), array.data)
    elif kind == 4:  # declares what is expected, holds another header
        data = header_of(draw.choice(["<f4", "<i8", "|O", "<f8"]), (10**11,)) + b"\0" * 48
        arrays[name] = Array(array.dtype, array.shape, array.stype, data)
    else:
        data = mutated_bytes(draw, array.data)
        arrays[name] = Array(array.dtype, array.shape, array.stype, data)
    return ArrayRecord(arrays)


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """Fail if decoding ever held more than a few megabytes: all valid inputs are tiny."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 2**20


@pytest.mark.parametrize("pack", [to_record, packed])
@fuzz
@given(seed=seeds)
def test_model_records(pack: Callable[[State], ArrayRecord], seed: int) -> None:
    draw = random.Random(seed)
    valid = pack(STATE)
    for _ in range(PER_EXAMPLE):
        try:
            state = from_record(hostile_record(draw, valid), STATE)
        except InvalidContent:
            continue
        assert list(state) == list(STATE)
        for name, like in STATE.items():
            assert state[name].shape == like.shape
            assert state[name].dtype == like.dtype
            assert bool(torch.isfinite(state[name].double()).all())


@pytest.mark.parametrize("pack", [to_record, packed])
def test_what_was_packed_is_unpacked_and_writable(
    pack: Callable[[State], ArrayRecord], tmp_path: Path
) -> None:
    model = build("resnet8", classes=4, channels=1, image_size=8, seed=1)
    state = cpu_state(model.to(memory_format=torch.channels_last))
    unpacked = from_record(pack(dict(reversed(state.items()))), state)
    assert list(unpacked) == list(state)
    save_file(unpacked, tmp_path / "state.safetensors")  # refuses tensors that share memory
    for name, value in state.items():
        assert torch.equal(unpacked[name], value)
        assert unpacked[name].dtype == value.dtype
        unpacked[name].zero_()


def test_one_array_for_each_type() -> None:
    state = cpu_state(build("resnet18", classes=4, channels=1, image_size=8, seed=1))
    assert {array.dtype for array in packed(state).values()} == {"float32", "int64"}
    assert len(packed(state)) == 2
    assert sorted(names_in(packed(state))) == sorted(state)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"a\nb": torch.zeros(4)}, "instead of float32[5]"),
        ({"a\nb": torch.zeros(5).double()}, "instead of float32"),
        ({"a\nb\na": torch.zeros(7)}, "twice"),
        ({"a": torch.zeros(2), "a\nb": torch.zeros(5)}, "twice"),
        ({"a\nc": torch.zeros(5)}, "names are not those expected"),
        ({"a\nb": torch.tensor([0.0, 0.0, 0.0, torch.nan, 0.0])}, "'b' holds NaN"),
    ],
)
def test_a_joint_array_must_hold_what_its_names_say(arrays: State, reason: str) -> None:
    expected = {"a": torch.empty(2), "b": torch.empty(3, 1)}
    with pytest.raises(InvalidContent, match=re.escape(reason)):
        from_record(ArrayRecord(arrays), expected)


def test_types_cannot_be_mixed_in_a_joint_array() -> None:
    with pytest.raises(InvalidContent, match="float32/int64"):
        from_record(
            ArrayRecord({"a\nb": torch.zeros(5)}),
            {"a": torch.empty(2), "b": torch.empty(3, dtype=torch.int64)},
        )


def test_an_array_in_column_order_is_read_right() -> None:
    columns = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    unpacked = from_record(ArrayRecord({"w": Array(columns)}), {"w": torch.empty(3, 4)})
    assert torch.equal(unpacked["w"], torch.arange(12.0).reshape(3, 4))


def hostile_value(draw: random.Random) -> Any:
    kind = draw.randrange(6)
    if kind == 0:
        return draw.choice(NUMBERS)
    if kind == 1:
        return draw.choice(FLOATS)
    if kind == 2:
        return draw.choice(TEXTS)
    if kind == 3:
        return [draw.choice(NUMBERS) for _ in range(draw.randrange(12))]
    if kind == 4:
        return [draw.choice(FLOATS) for _ in range(draw.randrange(12))]
    return [draw.choice(TEXTS) for _ in range(draw.randrange(12))]


@fuzz
@given(seeds)
def test_descriptions_of_the_data(seed: int) -> None:
    draw = random.Random(seed)
    valid = to_values(DataSet("digits").describe())
    for _ in range(PER_EXAMPLE):
        values = dict(valid)
        for _ in range(draw.randint(1, 3)):
            name = draw.choice(list(valid))
            if draw.random() < 0.2:
                values.pop(name, None)
            else:
                values[name] = hostile_value(draw)
        try:
            description = from_values(ConfigRecord(values))
        except DataError:
            continue
        if description is not None:
            assert description.channels in (1, 3)
            assert 0 < description.classes <= 100_000
            assert all(0 < side <= 16_384 for side in description.image_size)


def who(num_examples: int) -> Participant:
    return Participant(1, 1, num_examples)


@fuzz
@given(seeds)
def test_label_counts(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(PER_EXAMPLE):
        content = RecordDict()
        if draw.random() < 0.95:
            value = hostile_value(draw)
            if isinstance(value, str) or (isinstance(value, list) and value and value[0] in TEXTS):
                content["metrics"] = ConfigRecord({"label-counts": value})
            else:
                content["metrics"] = MetricRecord({"label-counts": value})
        request = LabelCountsRequest([1], 3, noised=draw.random() < 0.5)
        try:
            counts = request.checked(who(draw.choice([2, 256])), Received(content))
        except InvalidContent:
            continue
        assert len(counts) == 3
        assert all(0 <= count <= 10**10 for count in counts)
        assert sum(counts) > 0


def hostile_numbers(draw: random.Random, record: MetricRecord) -> MetricRecord:
    """Change some of a record's numbers, or leave some out."""
    kept: dict[str, Any] = {}
    for name, value in record.items():
        new = hostile_value(draw) if draw.random() < 0.2 else value
        numbers = new if isinstance(new, list) else [new]
        valid = all(isinstance(number, int | float) for number in numbers)
        if draw.random() < 0.95:
            kept[name] = new if valid else value
    return MetricRecord(kept)


def extreme(draw: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    """Replace all numbers of a tensor by one, or one of them, or none."""
    changed, value = tensor.clone(), draw.choice([*FLOATS, 1e20, 1e40, 1e200])
    kind = draw.randrange(3)
    if kind == 0:
        changed.fill_(value)
    elif kind == 1:
        changed.view(-1)[draw.randrange(changed.numel())] = value
    return changed


@fuzz
@given(seeds)
def test_batch_norm_inputs(seed: int) -> None:
    """What is let through gives, with an honest client, statistics that a model can have."""
    draw = random.Random(seed)
    honest = torch.randn(24, 2, dtype=torch.float64)
    moments = InputMoments(24, honest.sum(0), honest.square().sum(0))
    valid = MeasuredInputs(4, {"a": moments})
    for _ in range(PER_EXAMPLE):
        lied = InputMoments(24, extreme(draw, moments.total), extreme(draw, moments.squares))
        content = MeasuredInputs(4, {"a": lied}).content().records()
        if draw.random() < 0.3:
            content["moments"] = hostile_record(draw, content.array_records["moments"])
        content["metrics"] = hostile_numbers(draw, content.metric_records["metrics"])
        state = {"a.running_mean": torch.zeros(2), "a.running_var": torch.ones(2)}
        request = BatchNormRequest(state, {"a": (2, 6)})
        try:
            found = request.checked(who(4), Received(content))
        except InvalidContent:
            continue
        pooled = request.pooled({0: found, 1: valid})
        for name, value in pooled.items():
            assert bool(torch.isfinite(value).all()), name
        assert bool((pooled["a.running_var"] >= 0).all())


@fuzz
@given(seeds)
def test_class_statistics(seed: int) -> None:
    draw = random.Random(seed)
    features, labels = torch.randn(9, 3).double(), torch.tensor([0] * 5 + [1] * 4)
    valid = {
        "predictions": torch.tensor([4.0, 5.0]).double(),
        "feature_sums": torch.stack([features[labels == c].sum(0) for c in (0, 1)]),
        "feature_counts": torch.tensor([5, 4]),
        "moment": features.T @ features,
    }
    for _ in range(PER_EXAMPLE):
        request = StatisticsRequest(
            {"head.weight": torch.zeros(2, 3)},
            predictions=True,
            means=True,
            moment=True,
            classes=2,
            minimum=4,
            noised=draw.random() < 0.5,
            label_counts="exact",
        )
        sent = {n: extreme(draw, v) if v.is_floating_point() else v for n, v in valid.items()}
        content = ClientStatistics(9, ClassSums(**sent), [5, 4]).content().records()
        if draw.random() < 0.3:
            content["statistics"] = hostile_record(draw, content.array_records["statistics"])
        content["metrics"] = hostile_numbers(draw, content.metric_records["metrics"])
        try:
            found = request.checked(who(9), Received(content)).sums
        except InvalidContent:
            continue
        for name in valid:
            assert bool(torch.isfinite(getattr(found, name).float()).all()), name
            assert getattr(found, name).shape == valid[name].shape
        assert float(found.predictions.min()) >= 0


@fuzz
@given(seeds)
def test_introductions(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(PER_EXAMPLE):
        content = RecordDict()
        values = {"num-examples": 10, "partition-id": 0, "num-partitions": 2, "held-out": [2, 3]}
        values["label-counts"] = [4, 6]
        for name in values:
            value = hostile_value(draw) if draw.random() < 0.5 else values[name]
            numbers = value if isinstance(value, list) else [value]
            if all(isinstance(number, int | float) for number in numbers):
                values[name] = value
        kept = {name: value for name, value in values.items() if draw.random() < 0.95}
        content["metrics" if draw.random() < 0.95 else "other"] = MetricRecord(kept)
        try:
            found = DescriptionRequest().checked(who(0), Received(content))
        except InvalidContent:
            continue
        assert 0 < found.num_examples < 10**10
        assert -1 <= found.client < 10**6


@fuzz
@given(seeds)
def test_pseudo_data(seed: int) -> None:
    draw = random.Random(seed)
    logits = torch.randn(4, 3)
    valid = to_record(
        {
            "images": torch.randn(4, 1, 8, 8),
            "labels": torch.tensor([0, 2, 1, 2]),
            "logits": logits,
        }
    )

    class Says(torch.nn.Module):
        """A local model that says of any images what the client says it does."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return logits

    request = PseudoImagesRequest(
        "common", {1: 4}, 0, (1, 8, 8), 3, lambda client: {}, lambda state: Says()
    )
    for _ in range(PER_EXAMPLE):
        content = RecordDict({"metrics": MetricRecord({"objective": draw.choice([1.0, *FLOATS])})})
        kind = draw.randrange(4)
        if kind == 0:
            with np.errstate(over="ignore"):
                images = torch.from_numpy(np.full((4, 1, 8, 8), draw.choice(FLOATS), np.float32))
            labels = torch.tensor([draw.choice([0, 1, -1, 3, 2**62]) for _ in range(4)])
            content["pseudo"] = to_record({"images": images, "labels": labels, "logits": logits})
        elif kind == 1:
            content["pseudo"] = MetricRecord({"images": 1})
        else:
            content["pseudo"] = hostile_record(draw, valid)
        try:
            reply = request.checked(who(4), Received(content))
        except InvalidContent:
            continue
        assert reply.data.images.shape == (4, 1, 8, 8)
        assert float(reply.data.images.abs().max()) <= 1e3
        assert 0 <= int(reply.data.labels.min()) <= int(reply.data.labels.max()) < 3
        assert set(reply.data.sources.tolist()) == {1}
        assert np.isfinite(reply.objective)
