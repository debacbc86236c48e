"""Which of a trainer's logs become curves."""

import math

import pytest
from pipeline.methods.loop.curves import CurveCallback
from transformers import TrainerControl, TrainerState

from pipeline.io.records import write_csv


@pytest.fixture
def curves():
    """Return a callback that keeps loss and learning rate, and the list that it reports to."""
    reported = []
    callback = CurveCallback(
        {"loss": "policy/loss", "learning_rate": "policy/learning_rate"},
        lambda step, row: reported.append((step, row)),
    )
    return callback, reported


def log(callback, step, logs):
    callback.on_log(None, TrainerState(global_step=step), TrainerControl(), logs=logs)


def test_only_named_logs_are_kept_and_never_a_time(curves):
    callback, reported = curves
    log(callback, 1, {"loss": 0.5, "learning_rate": 1e-3, "epoch": 0.1, "train_tokens_per_second": 12.0})
    log(callback, 2, {"loss": 0.25, "grad_norm": 3.0})
    assert callback.rows == [
        {"step": 1, "policy/loss": 0.5, "policy/learning_rate": 1e-3},
        {"step": 2, "policy/loss": 0.25},
    ]
    assert reported == [(row["step"], {k: v for k, v in row.items() if k != "step"}) for row in callback.rows]


def test_the_summary_at_the_end_is_no_row(curves):
    callback, reported = curves
    log(callback, 9, {"train_runtime": 3.0, "train_samples_per_second": 4.0, "train_loss": 0.1})
    log(callback, 9, None)
    assert callback.rows == [] and reported == []


def test_a_loss_that_is_no_number_is_kept_and_missing_on_disk(curves, tmp_path):
    callback, _ = curves
    log(callback, 1, {"loss": float("nan"), "learning_rate": 0.5})
    assert math.isnan(callback.rows[0]["policy/loss"])
    write_csv(tmp_path / "a.csv", callback.rows)
    assert (tmp_path / "a.csv").read_text().splitlines()[1] == "1,,0.5"
