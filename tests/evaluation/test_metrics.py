"""A metric is one file and one word: what it declares is all that the evaluation and the parameters need of it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.declarations import Metric
from pipeline.config.loader import load
from pipeline.config.sections import Guard
from pipeline.evaluation import guards
from pipeline.evaluation.measure import per_completion
from pipeline.evaluation.metrics import METRICS
from pipeline.io import paths
from pipeline.io.records import read_jsonl

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted(path.stem for path in (ROOT / "experiments").glob("*.yaml"))
ASKING = Metric("question_rate", "completions that ask", per_completion(lambda row: "7" in row.completion))


def test_a_new_metric_is_measured_guarded_and_reranked_without_a_word_elsewhere(experiment, monkeypatch):
    before = experiment.evaluate()
    monkeypatch.setitem(METRICS, "question_rate", ASKING)
    found = experiment.evaluate()
    rows = read_jsonl(paths.completions("exp", 0, "sft"))
    share = np.mean(["7" in row["completion"] for row in rows])
    assert found["sft"]["guards"].pop("question_rate") == pytest.approx(share, abs=1e-6)
    assert found["sft"]["seeds"]["0"]["guards"].pop("question_rate") == pytest.approx(share, abs=1e-6)
    assert 0 <= found["baselines"]["best_of_k"]["guards"].pop("question_rate") <= 1
    assert found["sft"] == before["sft"] and found["baselines"] == before["baselines"], "nothing else changed"


def test_a_guard_may_watch_what_metrics_say_of_a_file():
    for experiment in EXPERIMENTS:
        file = load(experiment, ("probe", "refusal", "evaluate"))
        watched = {name for metric in METRICS.values() for name in metric.guards(file)}
        assert set(file.evaluate.guards) <= watched
        assert ("refusal_rate_benign" in watched) == (file.refusal is not None)
        for task, section in file.probe.tasks.items():
            assert (f"{task}_accuracy" in watched) == (section.layout == "options") and f"{task}_agreement" in watched
        assert "kl" in watched and "kl_per_token" not in watched


def test_a_metric_has_the_name_of_its_file_and_no_value_has_two():
    assert [metric.name for metric in METRICS.values()] == list(METRICS)
    names = [name for metric in METRICS.values() for name in metric.meanings]
    assert len(names) == len(set(names))


def test_metrics_import_nothing_heavy():
    heavy = {"torch", "transformers", "trl", "mlflow", "peft", "scipy", "sklearn", "rouge_score"}
    code = f"import sys, pipeline.evaluation.metrics; print({heavy!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_guard_without_its_value_is_missing_and_fails():
    checked = guards.checks({"question_rate": Guard(change="absolute", min=None, max=1.0)}, {})
    assert guards.failed(checked) == "question_rate"
