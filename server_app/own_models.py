"""What joining gained each site over a model that it trains alone.

One message more, behind everything else: it is about the model that the run keeps.
"""

import time

from foundation.events.family import OwnModels, SiteGain, failures_of
from foundation.models import State
from questions.own_model import JOINED, OWN, OwnModelRequest

from .acceptance import StageParts
from .checkpoints import BASELINE, rounds_done


def compare_with_own_models(parts: StageParts, initial: State) -> None:
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
    journal.record(
        OwnModels(
            rounds,
            None if whole is None else whole.scores.images,
            None if whole is None else whole.scores.accuracy(OWN),
            None if whole is None else whole.scores.accuracy(JOINED),
            None if whole is None else whole.gained,
            None if whole is None else whole.lost,
            [
                SiteGain(
                    client,
                    names[client],
                    found.scores.images,
                    found.scores.accuracy(OWN),
                    found.scores.accuracy(JOINED),
                    found.gained,
                    found.lost,
                    *(matrix.tolist() for matrix in found.confusion or ()),
                )
                for client, found in answers.valid.items()
            ],
            failures_of(answers.failures, names),
            time.perf_counter() - started,
        )
    )
    parts.commit(BASELINE)
