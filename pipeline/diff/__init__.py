"""What changed between two commits, parameters and results, and which results changed beyond noise: `make diff`."""

from pipeline.diff.comparison import ExperimentDiff, compare
from pipeline.diff.snapshot import Snapshot, snapshot

__all__ = ["ExperimentDiff", "Snapshot", "compare", "snapshot"]
