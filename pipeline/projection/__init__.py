"""L1: what MLflow shows of one stage execution, told from what is on disk alone. Imports no mlflow.

A running stage and `make track` describe an execution with the same functions, so that a rebuilt run equals the run
that was there. Two things are not on disk and only the first run has them: when something was logged, and metrics
under `time/`.
"""

from pipeline.projection.before_after import before_after_rows, before_after_table
from pipeline.projection.description import (
    ADAPTER_SUFFIXES,
    History,
    Projection,
    describe,
    missing_results,
    shown_params,
)
from pipeline.projection.execution import Execution, executions
from pipeline.projection.judged import completions_table, landings, outcome

__all__ = [
    "ADAPTER_SUFFIXES",
    "Execution",
    "History",
    "Projection",
    "before_after_rows",
    "before_after_table",
    "completions_table",
    "describe",
    "executions",
    "landings",
    "missing_results",
    "outcome",
    "shown_params",
]
