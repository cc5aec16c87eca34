"""Where the steps of a training are shown besides our own journal, which feeds them all."""

from harness.sinks.feed import Feed
from harness.sinks.sink import SINKS, Sink, require

__all__ = ["SINKS", "Feed", "Sink", "require"]
