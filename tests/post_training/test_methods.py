"""Every method of the folder runs without a federation, and finds the files of its peers."""

import pytest
import torch

from foundation.events.family import EpochDone
from foundation.settings.configuration import RunConfiguration
from post_training import Settings, methods

SMALL = {
    "generation.images-per-client": 6,
    "generation.iterations": 2,
    "distillation.epochs": 2,
    "distillation.learning-rate": 0.05,
    "fedadi.images": 6,
    "fedadi.epochs": 2,
    "dense.epochs": 2,
    "dense.steps": 2,
    "co-boosting.epochs": 2,
    "co-boosting.steps": 2,
    "fedftg.iterations": 2,
    "fedftg.warm-up": 2,
}


def settings(**keys):
    values = {name.replace("__", ".").replace("_", "-"): value for name, value in keys.items()}
    return Settings.of(RunConfiguration.parse({**SMALL, **values}))


@pytest.mark.parametrize("name", sorted({*methods()} - {"head"}))  # which needs answers
def test_every_method_runs_on_plain_states_and_repeats_itself(make_trained, name):
    results = []
    for _ in range(2):
        trained = make_trained(counts={client: [5, 3, 4] for client in range(3)})
        before = {key: value.clone() for key, value in trained.global_state.items()}
        methods()[name].run(trained, settings())
        assert trained.global_state.keys() == before.keys()
        changed = any(not torch.equal(trained.global_state[key], before[key]) for key in before)
        assert changed == (name != "none") == bool(trained.results)
        results.append(trained.global_state)
    assert all(torch.equal(value, results[1][key]) for key, value in results[0].items())


def with_rounds(trained):
    """Let it have clients, which learn nothing."""
    trained.round = lambda: True
    return trained


def test_fedf2dg_does_not_compete_without_clients(make_trained):
    trained = make_trained()
    methods()["fedf2dg"].run(trained, settings())
    assert list(trained.results) == ["distilled"]
    assert list(trained.store) == ["generate-00"]


def test_fedf2dg_repeats_no_step_that_is_done(make_trained):
    whole, parted = with_rounds(make_trained()), with_rounds(make_trained())
    run = methods()["fedf2dg"].run
    run(whole, settings(competition__rounds=2))
    run(parted, settings(stages="train,generate"))
    assert list(parted.store) == ["generate-00"]
    assert parted.results == {}
    parted.local_models = {}  # they are not looked at again
    run(parted, settings(stages="train,generate,distil"))
    assert list(parted.results) == ["distilled"]
    assert all(
        torch.equal(value, whole.results["distilled"][key])
        for key, value in parted.results["distilled"].items()
    )


def test_fedf2dg_shares_images_out_by_data_and_takes_all_of_them(make_trained):
    trained = with_rounds(make_trained())
    methods()["fedf2dg"].run(trained, settings(generation__batches=2, competition__rounds=2))
    assert list(trained.store) == [
        "generate-00",
        "generate-01",
        "compete-01-generate-00",
        "compete-02-generate-00",
    ]
    assert {len(data) for data in trained.store.values()} == {18}
    first = trained.store["generate-00"].sources.bincount().tolist()
    assert first == [5, 6, 7]  # 18 · (10, 11, 12) / 33 = 5.45, 6, 6.55: the largest remainder
    epochs = [event.competition_round for event in trained.events if isinstance(event, EpochDone)]
    assert epochs == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(("retrain", "rounds"), [("every", 3), ("once", 1)])
def test_fedf2dg_trains_between_repetitions_as_told(make_trained, monkeypatch, retrain, rounds):
    trained = make_trained()
    asked = []
    monkeypatch.setattr(trained, "round", lambda: asked.append(len(trained.results)) or True)
    methods()["fedf2dg"].run(trained, settings(competition__rounds=3, competition__retrain=retrain))
    assert len(asked) == rounds
    assert asked[0] == 1  # from the distilled model on
