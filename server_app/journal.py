"""What a run has done: steps, events and sums, all of them durable with every step."""

from collections.abc import Sequence
from pathlib import Path

from foundation.events.family import Listener, RunOpened
from foundation.events.log import EventLog
from foundation.settings.configuration import RunConfiguration

from .checkpoints import Checkpoint, Checkpoints, rounds_done
from .ledger import Ledger


class Journal:
    """Keeps the checkpoints and the events of one run."""

    def __init__(
        self, directory: Path, configuration: RunConfiguration, listeners: Sequence[Listener]
    ) -> None:
        self.checkpoints = Checkpoints(directory / "checkpoints", configuration)
        #: Called with an event: says what happened.
        self.record = EventLog(directory, configuration.num_server_rounds, listeners)
        self.take_up(Checkpoint({}))

    def take_up(self, state: Checkpoint) -> None:
        """Go on from a checkpoint."""
        #: What the next checkpoint will hold.
        self.state = state
        self.record.enter = state.ledger.enter

    def open(self, opened: RunOpened) -> None:
        """Drop what was done behind the checkpoint, which is done again, and tell who follows."""
        if self.state.completed:
            self.checkpoints.drop_later(self.state)
        self.record.open(opened, self.state.metrics_position)

    @property
    def ledger(self) -> Ledger:
        """Seconds, traffic and results so far."""
        return self.state.ledger

    def done(self, step: str) -> bool:
        """Tell whether a step was completed, in this process or before a resume."""
        return step in self.state.completed

    def commit(self, step: str) -> None:
        """Make a finished step durable, with what others have put into the state."""
        self.ledger.note_total_time()
        self.state.completed.append(step)
        if runs := self.state.runs:
            runs[list(runs)[-1]] = rounds_done(self.state.completed)  # the last is this process's
        self.state.metrics_position = self.record.position()
        self.checkpoints.save(self.state)

    def finish(self) -> None:
        """Note that all steps of the run are done."""
        self.ledger.note_total_time()
        self.checkpoints.finish()

    def close(self) -> None:
        """Tell who follows that the run goes on no more."""
        self.record.close()
