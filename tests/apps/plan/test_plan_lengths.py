"""How long the prompts of a plan are taken to be: from the texts, from their counts in Git, or from the limit."""

import json
from pathlib import Path

import pytest

from pipeline.apps.plan.work import lengths
from pipeline.io import paths
from tests.policy.tiny_model import section

WORDS = "we walked slowly along the quiet river until the evening bells began to ring over the old town"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_prompts(count: int) -> None:
    write(paths.formatted("exp", "train"), "".join(json.dumps({"prompt": WORDS}) + "\n" for _ in range(count)))


def write_counts(count: int) -> None:
    words = len(WORDS.split())
    counts = {"splits": {"train": {"prompts": count, "words_mean": words, "words_max": words}}}
    write(paths.metrics("exp", "format"), json.dumps(counts))


def test_without_prompts_or_counts_they_are_as_long_as_the_file_allows() -> None:
    found = lengths("exp", "train", section("model", max_prompt_tokens=77))
    assert (found.count, found.longest) == (None, 77)


def test_counts_of_a_clone_give_about_what_the_prompts_themselves_give() -> None:
    model = section("model", max_prompt_tokens=500)
    write_counts(7)
    counted = lengths("exp", "train", model)
    write_prompts(7)
    read = lengths("exp", "train", model)
    assert counted.count == read.count == 7
    assert counted.mean == pytest.approx(read.mean, rel=0.2) and counted.longest == pytest.approx(read.longest, rel=0.3)


def test_prompts_on_disk_are_believed_before_counts() -> None:
    write_counts(900)
    write_prompts(3)
    assert lengths("exp", "train", section("model")).count == 3


def test_a_chat_template_adds_to_every_prompt_and_nothing_is_longer_than_allowed() -> None:
    write_prompts(3)
    plain, chat = (lengths("exp", "train", section("model", prompt_format=kind)) for kind in ("plain", "chat_template"))
    assert chat.mean > plain.mean and chat.longest > plain.longest
    assert lengths("exp", "train", section("model", max_prompt_tokens=9)).longest == 9


def test_a_split_that_was_not_counted_is_not_known() -> None:
    write_counts(7)
    assert lengths("exp", "eval", section("model")).count is None
