"""What a run keeps: the judgement as a step of its own, its record, and judges that fail."""

from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file

import server_app.clients
from foundation.models import State, interpolated
from questions.ask import Answers, ask
from questions.evaluation import EvaluationRequest, Scores
from server_app.judgement import STEPS

SHARE = {"validation-share": 0.2}

Opinion = Callable[[int], tuple[int, int]]
"""From a candidate's index to the images that a client gained and lost by it."""


@pytest.fixture
def judged_as(monkeypatch: pytest.MonkeyPatch):
    """Return a function that has ten images of every client be judged by an opinion.

    Opinions are taken one by one, one for each judgement; None: no client answers.
    """
    asked: list[EvaluationRequest] = []

    def use(*opinions: Opinion | None) -> list[EvaluationRequest]:
        def answer(grid, request, participants, **rest) -> Answers:
            if not isinstance(request, EvaluationRequest):
                return ask(grid, request, participants, **rest)
            opinion = opinions[min(len(asked), len(opinions) - 1)]
            asked.append(request)
            if opinion is None:
                reasons = dict.fromkeys(participants.clients, "no reply in time")
                return Answers({}, reasons)
            table = [opinion(index) for index in range(len(request.steps))]
            gained = torch.tensor([[up] for up, _ in table]).numpy()
            lost = torch.tensor([[down] for _, down in table]).numpy()
            total = torch.tensor([10]).numpy()
            scores = Scores(total, 5 + gained - lost, gained, lost, gained[:, 0] * 0.0)
            return Answers(dict.fromkeys(participants.clients, scores), {})

        monkeypatch.setattr(server_app.clients, "ask", answer)
        return asked

    return use


def harm(index: int) -> tuple[int, int]:
    return (0, 4) if index else (0, 0)


def all_of_it(index: int) -> tuple[int, int]:
    return index, 0


def half(index: int) -> tuple[int, int]:
    return (0, 4, 5, 3, 2)[index], 0


def same(left: State, right: State) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


def test_a_stage_that_harms_leaves_the_federated_model(tiny_run, judged_as) -> None:
    judged_as(harm)
    trained = tiny_run("trained", **SHARE, stages="train").model()
    run = tiny_run("run", **SHARE)
    assert same(run.model(), trained)
    summary = run.summary()
    assert summary["judged"]["selected"] == "federated"
    assert summary["accuracy"]["selected"] == summary["accuracy"]["federated"]
    assert [v["step"] for v in summary["judged"]["verdicts"]] == [0.0, 0.0]
    assert all(
        "kept: federated" in v["sentence"] and "lost 40.0" in v["sentence"]
        for v in summary["judged"]["verdicts"]
    )


def test_what_helps_is_kept_and_gone_on_from(tiny_run, judged_as) -> None:
    judged_as(all_of_it)
    judged = tiny_run("run", **SHARE)
    taken = tiny_run("taken", **SHARE, acceptance="none")
    assert same(judged.model(), taken.model())
    summary = judged.summary()
    assert summary["judged"]["selected"] == "competed"
    assert summary["accuracy"]["selected"] == summary["accuracy"]["competed"]
    assert {**summary["accuracy"]} == taken.summary()["accuracy"]


def test_a_part_of_the_way_is_kept_where_that_is_best(tiny_run, judged_as) -> None:
    asked = judged_as(half)
    run = tiny_run("run", **SHARE, stages="train,generate,distil")
    assert same(run.model(), interpolated(asked[0].base, asked[0].target, 0.5))
    assert run.summary()["judged"]["step"] == 0.5
    assert list(asked[0].steps) == list(STEPS)


def test_a_competition_is_compared_with_the_model_kept_before_its_round(
    tiny_run, judged_as
) -> None:
    """Not with the average after one more round, which nobody judged."""
    asked = judged_as(all_of_it, harm)
    run = tiny_run("run", **SHARE)
    kept = load_file(run.directory / "checkpoints" / _step(run, "distil") / "global.safetensors")
    assert same(asked[1].base, kept)
    assert same(run.model(), kept)
    assert run.summary()["judged"]["selected"] == "distilled"


def _step(run, name: str) -> str:
    return next(step for step in run.steps() if step.endswith(f"{name}-judged"))


def test_judges_that_do_not_answer_leave_what_is_known(tiny_run, judged_as) -> None:
    judged_as(None)
    run = tiny_run("run", **SHARE, stages="train,generate,distil")
    judged = run.summary()["judged"]
    assert judged["by"] == "nobody" and judged["selected"] == "federated"
    assert "answered" in judged["verdicts"][0]["sentence"]
    event = run.events("judgement")[0]
    assert [failure["reason"] for failure in event["failures"]] == ["no reply in time"] * 3
    assert event["gain"] is None and event["candidates"] == []


def test_where_no_client_holds_images_out_every_result_is_kept(tiny_run) -> None:
    run = tiny_run("run", validation_share=0.0)
    taken = tiny_run("taken", validation_share=0.0, acceptance="none")
    assert same(run.model(), taken.model())
    judged = run.summary()["judged"]
    assert judged["by"] == "nobody" and judged["selected"] == "competed"
    assert "not judged" in judged["verdicts"][0]["sentence"]
    assert taken.summary()["judged"] is None


def test_clients_that_really_judge_are_written_down_by_name(tiny_run) -> None:
    run = tiny_run("run", **SHARE, stages="train,generate,distil")
    event = run.events("judgement")[0]
    judged = run.summary()["judged"]
    assert judged["by"] == "clients" and judged["images"] == event["images"] > 0
    assert sum(client["images"] for client in event["clients"]) == event["images"]
    assert all(client["name"] for client in event["clients"])
    mean = sum(c["images"] * c["stage"] for c in event["clients"]) / event["images"]
    assert mean == pytest.approx(judged["distilled"])
    assert [c["step"] for c in event["candidates"]] == list(STEPS)


def test_without_post_training_the_federated_model_is_selected(tiny_run) -> None:
    summary = tiny_run("run", post_training="none", validation_share=0.2).summary()
    assert summary["accuracy"]["selected"] == summary["accuracy"]["federated"]
    assert summary["judged"] is None
