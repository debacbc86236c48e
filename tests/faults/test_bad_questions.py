"""What cannot be measured: broken questions, weights that compute no numbers, scorers that score nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.scorers import SCORERS
from pipeline.scorers.scoring import score_each
from tests.faults.breaking import (
    COMPLETE,
    PPO,
    PREFERENCES,
    PROBE,
    REFERENCE,
    Break,
    Fault,
    Rows,
    both,
    cases,
    changed,
    cut,
    folder_instead,
    line,
    parameter,
    removed,
    rows,
    tensors,
    written,
)
from tests.faults.conftest import refused

QUESTIONS = Path("data/smoke/raw/questions/questions.jsonl")
BASE_WEIGHTS = Path("models/smoke/base/model.safetensors")
ADAPTER = Path("adapters/smoke/0/dpo")
ADAPTER_WEIGHTS = ADAPTER / "adapter_model.safetensors"
GUARDS = {"distinct_2": {"change": "relative", "min": -0.2, "max": None}}


def task(**values: Any) -> Break:
    """Change the task of the probe."""
    known = {"file": "questions/questions.jsonl", "layout": "options", "questions": 4}
    return parameter("probe", tasks={"chores": known | values})


def long_question(found: Rows) -> None:
    for row in found:
        row["question"] = "Why? " * 60 + row["question"]


def too_large(path: Path) -> Break:
    """Make every weight finite and so large that what is computed of them is not."""
    return tensors(path, lambda found: [tensor.fill_(3e38) for tensor in found.values()])


PROBED = [
    Fault("no questions", removed(QUESTIONS), PROBE, (str(QUESTIONS),)),
    Fault("questions that are a folder", folder_instead(QUESTIONS), PROBE, (str(QUESTIONS),)),
    Fault("empty file of questions", written(QUESTIONS, ""), PROBE, (str(QUESTIONS),)),
    Fault("half a question", cut(QUESTIONS, 0.9), PROBE, (str(QUESTIONS),)),
    Fault("question that is no JSON", line(QUESTIONS, 2, "?"), PROBE, (f"{QUESTIONS}:2",)),
    Fault("question without text", rows(QUESTIONS, changed(1, question=...)), PROBE, (f"{QUESTIONS}:1", "question")),
    Fault("question of whitespace", rows(QUESTIONS, changed(1, question="  ")), PROBE, (f"{QUESTIONS}:1", "question")),
    Fault(
        "question that is a list", rows(QUESTIONS, changed(1, question=["Why?"])), PROBE, (f"{QUESTIONS}:1", "question")
    ),
    Fault("question without options", rows(QUESTIONS, changed(3, options=...)), PROBE, (f"{QUESTIONS}:3", "options")),
    Fault(
        "options without letters", rows(QUESTIONS, changed(3, options="yes\nno")), PROBE, (f"{QUESTIONS}:3", "options")
    ),
    Fault(
        "one option",
        rows(QUESTIONS, changed(3, options="A. yes", answer="A. yes")),
        PROBE,
        (f"{QUESTIONS}:3", "choices"),
    ),
    Fault(
        "two equal options",
        rows(QUESTIONS, changed(3, options="A. yes\nB. yes", answer="A. yes")),
        PROBE,
        (f"{QUESTIONS}:3", "choices"),
    ),
    Fault(
        "option of no text",
        rows(QUESTIONS, changed(3, options="A. yes\nB. ", answer="A. yes")),
        PROBE,
        (f"{QUESTIONS}:3", "choice"),
    ),
    Fault(
        "answer that is no option",
        rows(QUESTIONS, changed(4, answer="C. perhaps")),
        PROBE,
        (f"{QUESTIONS}:4", "answer"),
    ),
    Fault("answer that is a number", rows(QUESTIONS, changed(4, answer=0)), PROBE, (f"{QUESTIONS}:4", "answer")),
    Fault(
        "two answers to a question",
        rows(QUESTIONS, lambda found: found.append(found[0] | {"answer": found[0]["options"].split("\n")[1]})),
        PROBE,
        (f"{QUESTIONS}:7", "answer"),
    ),
    Fault(
        "layout of another file",
        both(task(layout="endings"), parameter("evaluate", guards=GUARDS)),
        PROBE,
        (f"{QUESTIONS}:1", "answer"),
    ),
    Fault("file that is not there", task(file="questions/goose.jsonl"), PROBE, ("questions/goose.jsonl",)),
    Fault(
        "file outside of the data",
        task(file="../../../sources/questions.jsonl"),
        PROBE,
        ("probe.tasks.chores.file", "../"),
    ),
    Fault("question longer than the context", rows(QUESTIONS, long_question), PROBE, ("probe.tasks.chores", "128")),
    Fault(
        "sentence longer than the context",
        parameter("identity", templates=["The {term} goose " + "honked " * 30]),
        PROBE,
        ("identity", "128"),
    ),
    Fault("sentence of one token", parameter("identity", terms=["I"], templates=["{term}"]), PROBE, ("identity",)),
]

NOT_FINITE = [
    Fault(
        "base that computes no numbers",
        tensors(BASE_WEIGHTS, lambda found: found["lm_head.weight"].fill_(3e38)),
        REFERENCE,
        ("model.source", "finite"),
    ),
    Fault(
        "adapter that computes no numbers",
        too_large(ADAPTER_WEIGHTS),
        COMPLETE,
        (str(ADAPTER), "finite"),
    ),
    Fault(
        "adapter that probes no numbers",
        too_large(ADAPTER_WEIGHTS),
        PROBE,
        (str(ADAPTER), "finite"),
    ),
]


@pytest.mark.parametrize("fault", cases([*PROBED, *NOT_FINITE]))
def test_it_is_refused(fault: Fault, workplace: Path) -> None:
    fault.broken()
    refused(*fault.arguments, names=fault.names)


class Speechless:
    """A scorer that fails at every text."""

    name, fingerprint = "vowels", "0" * 64

    def score(self, texts: list[str]) -> list[float | None]:
        return score_each(self._fail, texts)

    def cut(self, texts: list[str]) -> list[bool]:
        return [False] * len(texts)

    def _fail(self, texts: object) -> list[float]:
        raise RuntimeError("cannot score")


@pytest.mark.parametrize("command", [REFERENCE, PREFERENCES, PPO])
def test_a_scorer_that_scores_nothing_is_refused(
    command: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCORERS, "keyword", replace(SCORERS["keyword"], load=lambda *_: Speechless()))
    assert "score none of" in refused(*command.split(), names=("vowels",))
