"""Where a run's numbers and pictures go beside its directory: one file here for each place.

A sink is a module with a function ``open_sink(directory, configuration)`` that returns a
:class:`~foundation.events.sinks.registry.Sink`, and a line in :data:`SINKS`.
"""

from foundation.events.sinks.registry import SINKS, Sink, SinkError, chosen_sinks
from foundation.events.sinks.relay import Relay

__all__ = ["SINKS", "Relay", "Sink", "SinkError", "chosen_sinks"]
