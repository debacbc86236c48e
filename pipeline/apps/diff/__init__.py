"""What changed between two commits, parameters and results, and which results changed beyond noise: `make diff`."""

from pipeline.apps.diff.comparison import ExperimentDiff, compare
from pipeline.apps.diff.snapshot import Snapshot, snapshot

__all__ = ["ExperimentDiff", "Snapshot", "compare", "snapshot"]
