"""Whether everything is as it was recorded: `make verify`. Reads and hashes, and writes nothing."""

from pipeline.apps.verify.checking import check
from pipeline.apps.verify.finding import Finding

__all__ = ["Finding", "check"]
