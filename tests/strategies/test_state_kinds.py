"""A state is three things: parameters move, float buffers are averaged, counters keep counting."""

import pytest
import torch
from torch import nn

from foundation.messages.records import from_record
from foundation.models import StateLayout
from foundation.models.aggregation import combine, sample_weights

STRATEGIES = [
    "fedavg",
    "fedprox",
    "scaffold",
    "fednova",
    "moon",
    "fedacg",
    "feddyn",
    "fedadam",
    "fedavgm",
    "fedmedian",
]


class Normalised(nn.Module):
    """BatchNorm, then a linear prediction."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2).double()
        self.weight = nn.Parameter(torch.full((2,), 0.5, dtype=torch.float64))

    def embed(self, images):
        return self.norm(images)

    def classify(self, features):
        return features @ self.weight


@pytest.fixture
def shifted_clients(make_client):
    """Different sizes, means, variances and numbers of steps."""
    draw = torch.Generator().manual_seed(3)
    return [
        make_client(
            torch.randn(n, 2, generator=draw).double() * spread + shift,
            torch.randn(n, generator=draw).double(),
            steps,
        )
        for n, spread, shift, steps in ((4, 1.0, 0.0, 1), (16, 0.1, 3.0, 12), (10, 4.0, -2.0, 5))
    ]


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_averages_float_buffers_and_takes_the_largest_counter(
    laboratory, shifted_clients, name
):
    run = laboratory(shifted_clients, strategy=name, model=Normalised(), learning_rate=0.01)
    replies = {}
    run.grid.touch = lambda client, reply: (
        replies.__setitem__(client, from_record(reply.content["arrays"], run.state)) or reply
    )
    for _ in range(3):
        state = run.round()
        for buffer in ("norm.running_mean", "norm.running_var"):
            expected = sum(
                client.samples / 30 * replies[index][buffer]
                for index, client in enumerate(shifted_clients)
            )
            torch.testing.assert_close(state[buffer], expected, rtol=1e-12, atol=1e-14)
        counter = state["norm.num_batches_tracked"]
        assert counter.dtype == torch.int64
        assert int(counter) == max(int(r["norm.num_batches_tracked"]) for r in replies.values())
    assert int(counter) == 3 * 12


def test_variances_stay_positive_where_fednova_extrapolates(laboratory, make_client):
    """Parameters move with weights that sum to 2.8; with those a variance would turn negative."""
    clients = [
        make_client(torch.randn(40, 2).double() * 1e-3, torch.randn(40).double(), steps)
        for steps in (1, 40)
    ]
    run = laboratory(clients, strategy="fednova", model=Normalised(), learning_rate=1e-4)
    for _ in range(3):
        state = run.round()
        assert run.strategy.outcome.notes["effective-weight"] > 2
        assert float(state["norm.running_var"].min()) > 0


LAYOUT = StateLayout(("w",), ("running",), ("count",))


def states(dtype=torch.float32):
    def state(w, running, count):
        return {
            "w": torch.tensor([w], dtype=dtype),
            "running": torch.tensor([running], dtype=dtype),
            "count": torch.tensor(count),
        }

    return state(1.0, 9.0, 5), [state(2.0, 1.0, 7), state(5.0, 3.0, 6)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_combine_by_hand(dtype):
    """w: 1 + 0.5·(½·(2 - 1) + 2·(5 - 1)) = 5.25; running: ¼·1 + ¾·3 = 2.5; count: max(7, 6)."""
    start, local = states(dtype)
    result = combine(
        start,
        local,
        LAYOUT,
        weights=[0.25, 0.75],
        parameter_weights=[0.5, 2.0],
        server_learning_rate=0.5,
    )
    assert list(result) == list(start)
    assert result["w"].item() == 5.25
    assert result["running"].item() == 2.5
    assert result["count"].item() == 7
    assert [v.dtype for v in result.values()] == [dtype, dtype, torch.int64]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_combine_leaves_its_inputs_alone(dtype):
    start, local = states(dtype)
    combine(start, local, LAYOUT, weights=[0.5, 0.5])
    expected_start, expected_local = states(dtype)
    for found, expected in zip((start, *local), (expected_start, *expected_local), strict=True):
        for name, value in expected.items():
            assert torch.equal(found[name], value)


def test_counters_beyond_float_precision_stay_exact():
    start, local = states()
    local[0]["count"] = torch.tensor(2**53 + 1)
    assert combine(start, local, LAYOUT, weights=[0.5, 0.5])["count"].item() == 2**53 + 1


def test_equal_models_average_to_themselves():
    start, (local, _) = states()
    same = combine(start, [local] * 3, LAYOUT, weights=sample_weights([1, 5, 3]))
    for name, value in local.items():
        assert torch.equal(same[name], value)


def test_weights_are_shares_of_samples():
    assert sample_weights([10, 30]) == [0.25, 0.75]


def test_layout_of_a_real_model():
    from foundation.models import build

    model = build("resnet8", classes=2, channels=1, image_size=8)
    layout = StateLayout.of(model)
    assert set(layout.parameters) == {name for name, _ in model.named_parameters()}
    assert all("running_" in name for name in layout.float_buffers)
    assert all("num_batches_tracked" in name for name in layout.integer_buffers)
    kinds = (layout.parameters, layout.float_buffers, layout.integer_buffers, layout.frozen)
    assert sorted(sum(kinds, ())) == sorted(model.state_dict())
