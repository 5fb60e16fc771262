"""Who measures a run's models: the server's test set, the clients, both, or nobody."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedf2dg.report import terminal_table, write_report
from fedf2dg.starters import write_folders
from foundation.data import DataSet
from foundation.events.reading import from_json
from foundation.messages.participants import Participant
from foundation.models import load_state
from foundation.models.evaluation import Evaluator
from foundation.settings.configuration import ConfigurationError, RunConfiguration
from questions.evaluation import Scores
from server_app.measuring import Measuring, mean_loss
from server_app.preflight import parse
from server_app.run import _warn_of_judges
from server_app.run_directory import settings_to_resume
from strategies import shared_model
from tests.meeting import meeting

KEYS = {"validation_share": 0.3, "stages": "train,generate,distil", "num_server_rounds": 2}


@pytest.fixture(scope="module")
def without_test(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a data directory that has training images alone."""
    root = tmp_path_factory.mktemp("images")
    write_folders(root / "train", DataSet("digits").load("train").subset(range(120)), "L")
    return str(root)


@pytest.fixture
def untested_run(tiny_run: Callable, without_test: str) -> Callable:
    """Return a function that carries out a run whose server has no test set."""

    def carry_out(name: str, **keys):
        own = {"dataset": "folder", "data_dir": without_test, "min_partition_size": 5}
        return tiny_run(name, **{**KEYS, **own, **keys})

    return carry_out


def test_without_a_test_set_the_clients_measure(untested_run) -> None:
    run = untested_run("run")
    summary = run.summary()
    images = summary["judged"]["images"]
    assert images > 0
    for stage in ("federated", "distilled", "selected"):
        assert 0 <= summary["accuracy"][stage] <= 1
        chose = {"also_chose": True} if stage == "selected" else {}
        assert summary["measured"][stage] == {"by": "clients", "images": images, **chose}
    assert summary["measured"]["competed"] is None
    # Nobody looked at a test set.
    assert summary["best_on_test"] == dict.fromkeys(("federated", "distilled", "competed"))
    # The same model on the same images, asked in another message.
    assert summary["accuracy"]["distilled"] == summary["judged"]["distilled"]
    assert summary["accuracy"]["federated"] == summary["judged"]["federated"]
    told = summary["on_clients"]["distilled"]
    assert sum(c["images"] for c in told["clients"]) == told["images"] == images
    mean = sum(c["images"] * c["accuracy"] for c in told["clients"]) / images
    assert told["accuracy"] == pytest.approx(mean)
    rounds = run.events("round")
    assert all(r["measured"] == {"by": "clients", "images": images} for r in rounds)
    assert all(math.isfinite(r["loss"]) for r in rounds)
    # Clients are asked at the ends of stages, not after every epoch.
    assert [event["accuracy"] for event in run.events("distillation")] == [None, None]


@pytest.mark.parametrize(
    ("keys", "evaluated"),
    [
        # After training, and the judgement of either stage.
        ({"stages": "train,generate,distil,compete"}, 3),
        ({"stages": "train,generate,distil"}, 2),
        # Without judges, the ends of the same stages.
        ({"stages": "train,generate,distil,compete", "acceptance": "none"}, 3),
        # After each of two rounds.
        ({"stages": "train,generate,distil", "evaluation_every": 1}, 3),
    ],
)
def test_a_result_is_measured_and_judged_by_one_message(
    untested_run, monkeypatch, keys: dict, evaluated: int
) -> None:
    import questions.ask as asking

    asked: list[str] = []
    gather = asking.gather

    def counting(grid, addresses, message_type, *rest):
        asked.append(message_type)
        return gather(grid, addresses, message_type, *rest)

    monkeypatch.setattr(asking, "gather", counting)
    run = untested_run("run", **{"evaluation_every": 0, **keys})
    assert asked.count("query.evaluation") == evaluated
    for stage, accuracy in run.summary()["accuracy"].items():
        assert (accuracy is None) == (stage == "competed" and "compete" not in keys["stages"])


def test_what_the_clients_say_agrees_with_the_same_images_here(untested_run) -> None:
    run = untested_run("run", post_training="none")
    configuration = RunConfiguration.parse(settings_to_resume(run.directory))
    description = configuration.data_set.describe()
    model = load_state(shared_model(configuration, description), run.model())
    parts = [configuration.division.data(client, "held-out") for client in range(3)]
    correct = 0
    for part in parts:
        if len(part):
            found = Evaluator(part, description.normalization, next(model.parameters()).device)
            correct += int(np.trace(found(model).confusion))
    images = sum(map(len, parts))
    assert run.summary()["accuracy"]["federated"] == correct / images
    assert run.summary()["measured"]["federated"] == {"by": "clients", "images": images}


def test_whoever_reads_the_kept_models_accuracy_learns_that_the_images_chose_it(
    untested_run,
) -> None:
    run = untested_run("run")
    card = (run.directory / "model" / "README.md").read_text("utf-8")
    page = write_report(run.directory).read_text("utf-8")
    for said in (card, page, terminal_table(run.summary())):
        assert "flatters" in said
    taken = untested_run("taken", acceptance="none")
    assert "also_chose" not in taken.summary()["measured"]["selected"]
    assert "flatters" not in terminal_table(taken.summary())


def test_before_any_work_the_log_says_that_nobody_measures_or_judges(untested_run, app_log) -> None:
    untested_run("run", validation_share=0.0)
    said = [record.getMessage() for record in app_log.records]
    first_round = next(i for i, line in enumerate(said) if line.startswith("federated round 1"))
    before = "\n".join(said[:first_round])
    assert "nobody will judge: no client holds an image out (validation-share=0)" in before
    assert "nothing will be measured" in before


def test_clients_without_an_image_to_judge_with_are_named_before_any_work(app_log) -> None:
    participants = meeting(14)
    participants._by_client = {
        client: Participant(client, client, 10, (client % 14 // 13, 0), f"site {client}")
        for client in range(14)
    }
    _warn_of_judges(RunConfiguration.parse({}), participants, "server")
    (said,) = [record.getMessage() for record in app_log.records]
    assert said.startswith("no image is held out by site 0, site 1, ")
    assert said.endswith("site 9 and 3 more: nothing is measured or judged there")


def test_where_nothing_is_measured_no_number_is_written(untested_run) -> None:
    run = untested_run("run", validation_share=0.0)
    summary = run.summary()
    assert set(summary["accuracy"].values()) == {None}
    assert summary["measured"]["federated"] == {"by": "nobody", "images": 0}
    lines = terminal_table(summary).splitlines()
    for stage in ("federated", "distilled", "selected"):
        assert "not measured" in next(line for line in lines if line.startswith(stage))
    assert not any(line.startswith("competed") for line in lines)
    assert not any("%" in line for line in lines)
    for event in [*run.events("round"), *run.events("evaluation"), *run.events("distillation")]:
        assert event["accuracy"] is None
        assert "accuracy not measured" in from_json(event).sentence()


def test_the_report_says_who_measured(untested_run) -> None:
    run = untested_run("run", post_training="none")
    images = run.summary()["measured"]["federated"]["images"]
    page = write_report(run.directory).read_text("utf-8")
    assert f"measured on {images} held-out images of the clients" in page


def test_a_fifth_of_the_sites_folders_is_called_that_and_seen_once(
    tiny_run, tmp_path, monkeypatch, app_log
) -> None:
    """Of the kept model the report knows what the run measured; it is not asked again."""
    digits = DataSet("digits").load("train")
    for place in range(3):
        part = digits.subset(range(60 * place, 60 * place + 60))
        write_folders(tmp_path / "sites" / f"site-{place}", part, "L")
    monkeypatch.setattr("fedf2dg.report.tested_images._asked", None)
    sites = {"dataset": "folder", "data_dir": str(tmp_path / "sites"), "partition": "folders"}
    run = tiny_run("run", **{**KEYS, **sites, "train_samples": 0})
    assert run.summary()["measured"]["selected"]["of_sites"] is True
    said = {"log": app_log.text, "report": write_report(run.directory).read_text("utf-8")}
    said["card"] = (run.directory / "model" / "README.md").read_text("utf-8")
    for where, text in said.items():
        assert "test images of the sites" in text, where
        assert "of the server" not in text, where
    assert (run.directory / "test_images.json").is_file()


def test_a_run_without_a_test_set_resumes(untested_run) -> None:
    whole = untested_run("whole")
    untested_run("part", stages="train")
    resumed = untested_run(
        "resumed", stages="generate,distil", resume_from=str(whole.directory.parent / "part")
    )
    ours, theirs = resumed.summary(), whole.summary()
    for name in ("accuracy", "measured", "on_clients", "judged"):
        assert ours[name] == theirs[name], name


def test_the_servers_figures_do_not_depend_on_who_else_measures(tiny_run) -> None:
    alone, auto, both = (
        tiny_run(wish, evaluation=wish, **KEYS) for wish in ("server", "auto", "both")
    )
    assert alone.summary() == auto.summary()
    assert alone.events("round") == auto.events("round")
    for name in ("accuracy", "best_on_test", "measured", "judged"):
        assert alone.summary()[name] == both.summary()[name], name
    assert alone.summary()["measured"]["selected"] == {
        "by": "server",
        "images": len(DataSet("digits").load("test")),
    }
    assert alone.summary()["on_clients"] is None
    judged = both.summary()["judged"]
    for stage in ("federated", "distilled"):
        assert both.summary()["on_clients"][stage]["accuracy"] == judged[stage]
    # Evaluating leaves the models as they are.
    assert all(bool((alone.model()[n] == v).all()) for n, v in both.model().items())


@pytest.mark.parametrize(("every", "measured"), [(0, []), (2, [2, 3]), (5, [3])])
def test_evaluation_every(tiny_run, every: int, measured: list[int]) -> None:
    run = tiny_run("run", evaluation_every=every, stages="train")
    told = [event["round"] for event in run.events("round") if event["accuracy"] is not None]
    assert told == measured
    assert run.summary()["measured"]["federated"]["by"] == "server"


def test_a_baseline_without_a_global_model_is_measured_after_its_last_round(tiny_run) -> None:
    run = tiny_run("run", strategy="local", evaluation_every=0, stages="train")
    accuracies = [event["accuracy"] for event in run.events("round")]
    assert accuracies[:-1] == [None, None]
    summary = run.summary()
    assert summary["accuracy"]["federated"] == accuracies[-1] is not None
    # There is no model that could have been selected.
    assert summary["accuracy"]["selected"] is summary["measured"]["selected"] is None


@pytest.mark.parametrize("wish", ["server", "both"])
def test_a_server_without_a_test_set_cannot_measure(untested_run, wish: str) -> None:
    with pytest.raises(ConfigurationError, match=f"evaluation = '{wish}'.*evaluation=clients"):
        untested_run("run", evaluation=wish)


@pytest.mark.parametrize("wish", ["clients", "both"])
def test_clients_that_hold_nothing_out_cannot_measure(wish: str) -> None:
    with pytest.raises(ConfigurationError, match="validation-share"):
        parse({"evaluation": wish, "validation-share": 0.0})


def _scores(images: int, loss: float) -> Scores:
    right = np.ones((1, images), dtype=bool)
    return Scores.counted(np.zeros(images, dtype=np.int64), right, [loss], 1)


def test_one_client_cannot_make_a_model_look_diverged() -> None:
    assert mean_loss([_scores(4, 2.0), _scores(1, math.inf)]) == 0.5
    assert mean_loss([_scores(4, 2.0), _scores(4, 6.0)]) == 1.0
    assert mean_loss([_scores(4, math.inf)]) == math.inf


def test_a_model_that_was_just_measured_is_not_measured_again() -> None:
    configuration = RunConfiguration.parse({"evaluation": "server"})
    calls: list[object] = []

    class Counting(Measuring):
        def here(self, state: object) -> object:  # type: ignore[override]
            calls.append(state)
            return state

    measuring = Counting(configuration, None, None, None)  # type: ignore[arg-type]
    first, second = {}, {}
    for state in (first, first, second):
        measuring(state)  # type: ignore[arg-type]
    assert len(calls) == 2


def test_a_folder_is_looked_at_for_its_test_images(without_test: str, tmp_path: Path) -> None:
    assert DataSet("folder", without_test).has("train")
    assert not DataSet("folder", without_test).has("test")
    assert not DataSet("folder").has("test")
    assert DataSet("digits").has("test")
    assert DataSet("cifar10", str(tmp_path)).has("test")
