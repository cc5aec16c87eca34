"""Where the steps of a training are shown besides our own journal, which feeds them all."""

from harness.tracking.feed import Feed
from harness.tracking.sink import SINKS, Sink, require

__all__ = ["SINKS", "Feed", "Sink", "require"]
