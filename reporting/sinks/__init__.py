"""Where a run's numbers and pictures go beside its directory: one file here for each place.

A sink is a module with a function ``open_sink(directory, configuration)`` that returns a
:class:`~reporting.sinks.sink.Sink`, and a line in :data:`SINKS`.
"""

from reporting.sinks.registry import SINKS, SinkError, chosen_sinks
from reporting.sinks.relay import Relay
from reporting.sinks.sink import Sink

__all__ = ["SINKS", "Relay", "Sink", "SinkError", "chosen_sinks"]
