"""What sites have for themselves: layers of their own, and models that they train alone.

The latter say what joining gained a site over staying alone, of the model that the run keeps.
"""

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foundation.errors import log
from foundation.events.family import (
    OwnLayersJudged,
    OwnLayersOfSite,
    OwnModels,
    SiteGain,
    failures_of,
)
from foundation.models import State
from foundation.models.client_store import batch_norm_entries
from foundation.models.state import digest_of
from questions.own_layers import OwnLayersRequest
from questions.own_model import JOINED, OWN, Comparison, OwnModelRequest
from questions.personal import PersonalRequest, better
from server_app.acceptance import StageParts
from server_app.checkpoints import BASELINE, rounds_done
from server_app.judgement import tallies
from server_app.run_directory import SITES

_STEP = "personal-judged"
# All rounds of the process that is at work count, also one that no checkpoint holds yet.
_NO_LAST = 2**31


def begin(parts: StageParts, directory: Path) -> None:
    """Tell the sites from now on which of the layers that they keep belong to this run.

    Every process that works at a run has a name of its own: what the sites kept in rounds behind
    the checkpoint that it goes on from is not of this run.
    """
    if parts.configuration.personal == "none":
        return
    runs = parts.journal.state.runs
    before = [*runs.values()]
    runs[secrets.token_hex(8)] = rounds_done(parts.journal.state.completed)

    def said() -> Mapping[str, Any]:
        told = {"runs": list(runs), "last-rounds": [*before, _NO_LAST]}
        if not parts.clients.participants.simulated:
            return told
        (directory / SITES).mkdir(exist_ok=True)
        return {**told, "sites-folder": str(directory / SITES)}

    parts.clients.said_to_sites = said


def complete(parts: StageParts) -> None:
    """Give the model of the rounds BatchNorm layers: the mean of the sites' own, measured anew."""
    if parts.configuration.personal != "batch-norm":
        return
    names = batch_norm_entries(parts.model.shell)
    request = OwnLayersRequest(parts.model.state, names)
    answers = parts.clients.ask(request)
    if answers.failures:
        log.warning("BatchNorm layers of the sites: %s", answers.who_failed)
    parts.model.state = request.pooled(answers.valid)
    parts.measuring.take_statistics("federated", always=True)


def judge(parts: StageParts) -> None:
    """Have the sites hold their own layers against the model that the run keeps."""
    of, state = parts.configuration.personal, parts.model.state
    if of == "none" or parts.configuration.stage_names == ("train",) or parts.journal.done(_STEP):
        return
    started = time.perf_counter()
    with parts.journal.ledger.timed("personal"):
        progress = parts.progress("judgement of the sites' own layers", "sites")
        answers = parts.clients.ask(PersonalRequest(state, steps=(0.0, 0.0)), progress)
    names = parts.clients.participants.names()
    sites = []
    for client, scores in answers.valid.items():
        shared, own = tallies(scores)
        figures = (scores.images, shared.accuracy, own.accuracy, own.gain, own.standard_error)
        sites.append(OwnLayersOfSite(client, names[client], *figures, better(scores)))
    failures = failures_of(answers.failures, names)
    seconds = time.perf_counter() - started
    parts.journal.record(OwnLayersJudged(of, digest_of(state)[:16], sites, failures, seconds))
    parts.commit(_STEP)


def compare(parts: StageParts, initial: State) -> None:
    """Have every site that holds images out compare; ``initial`` is what the federation began with.

    The sites train for as many rounds as the federation did.
    """
    journal, participants = parts.journal, parts.clients.participants
    if journal.done(BASELINE):
        return
    rounds, started = rounds_done(journal.state.completed), time.perf_counter()
    request = OwnModelRequest(initial, parts.model.state, rounds)
    with journal.ledger.timed("baseline"):
        answers = parts.clients.ask(request, parts.progress("the sites' own models", "clients"))
    names, whole = participants.names(), request.pooled(answers.valid)
    sites = [
        SiteGain(
            client,
            names[client],
            *_figures(found),
            *(matrix.tolist() for matrix in found.confusion or ()),
        )
        for client, found in answers.valid.items()
    ]
    failures, seconds = failures_of(answers.failures, names), time.perf_counter() - started
    figures = _figures(whole)
    journal.record(OwnModels(rounds, *figures, sites, failures, seconds))
    parts.commit(BASELINE)


def _figures(
    found: Comparison | None,
) -> tuple[int | None, float | None, float | None, int | None, int | None]:
    if found is None:
        return None, None, None, None, None
    right = found.scores.accuracy
    return found.scores.images, right(OWN), right(JOINED), found.gained, found.lost
