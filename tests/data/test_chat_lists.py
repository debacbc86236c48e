"""The project's own chat prompts and labelled replies are distinct, sufficient and kept apart."""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from pipeline.data.schema import normalized
from pipeline.data.splits import PromptIndex

FOLDER = Path(__file__).parents[2] / "experiments" / "chat"
ORIGINS = {"smollm2-135m-instruct", "written"}
PROMPT_LISTS = ["hostile", "benign"]
RUN = 5  # words


def _lines(name: str) -> list[str]:
    text = (FOLDER / f"{name}.jsonl").read_bytes().decode("utf-8")
    assert text.endswith("\n") and "\r" not in text
    return text.removesuffix("\n").split("\n")


def _rows(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in _lines(name)]


def _prompts(name: str) -> list[str]:
    return [str(row["prompt"]) for row in _rows(name)]


def _words(prompt: str) -> list[str]:
    return re.findall(r"\w+", normalized(prompt))


@pytest.mark.parametrize("name", [*PROMPT_LISTS, "replies"])
def test_lines_are_canonical_json(name: str) -> None:
    lines = _lines(name)
    assert lines == [json.dumps(json.loads(line), ensure_ascii=False, sort_keys=True) for line in lines]


@pytest.mark.parametrize("name", PROMPT_LISTS)
def test_prompt_rows_hold_a_trimmed_prompt_of_4_to_30_words_and_a_category(name: str) -> None:
    for row in _rows(name):
        assert set(row) == {"prompt", "category"} and row["category"]
        prompt = str(row["prompt"])
        assert prompt == prompt.strip() and 4 <= len(prompt.split()) <= 30


def test_no_prompt_stands_twice_whatever_its_case_spaces_and_punctuation() -> None:
    folded = Counter("".join(_words(prompt)) for name in PROMPT_LISTS for prompt in _prompts(name))
    assert [prompt for prompt, count in folded.items() if count > 1] == []


def test_no_five_words_in_a_row_stand_in_two_prompts() -> None:
    holders: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for prompt in (prompt for name in PROMPT_LISTS for prompt in _prompts(name)):
        words = _words(prompt)
        for start in range(len(words) - RUN + 1):
            holders[tuple(words[start : start + RUN])].add(prompt)
    assert [run for run, prompts in holders.items() if len(prompts) > 1] == []


def test_hostile_prompts_are_enough_and_balanced_over_their_categories() -> None:
    counts = Counter(row["category"] for row in _rows("hostile"))
    assert counts.total() >= 280
    assert 6 <= len(counts) <= 8
    assert max(counts.values()) <= 2 * min(counts.values())


def test_about_half_of_the_benign_prompts_merely_look_hostile() -> None:
    counts = Counter(row["category"] for row in _rows("benign"))
    assert counts.total() >= 260
    assert 0.4 <= counts["looks_hostile"] / counts.total() <= 0.6
    assert len(counts) >= 5


def test_labelled_replies_are_of_both_kinds_from_either_origin() -> None:
    rows = _rows("replies")
    assert all(set(row) == {"prompt", "reply", "refusal", "origin"} for row in rows)
    assert all(isinstance(row["refusal"], bool) and str(row["reply"]).strip() for row in rows)
    counts = Counter((row["origin"], row["refusal"]) for row in rows)
    assert set(counts) == {(origin, refusal) for origin in ORIGINS for refusal in (True, False)}
    assert min(counts.values()) >= 30
    assert counts.total() >= 220
    assert counts["smollm2-135m-instruct", True] + counts["smollm2-135m-instruct", False] >= 150


def test_no_reply_is_labelled_twice() -> None:
    labelled = Counter((row["prompt"], row["reply"]) for row in _rows("replies"))
    assert max(labelled.values()) == 1


def test_messages_of_the_labelled_replies_are_no_evaluation_prompts() -> None:
    listed = [prompt for name in PROMPT_LISTS for prompt in _prompts(name)]
    folded = {"".join(_words(prompt)) for prompt in listed}
    index = PromptIndex(listed)
    for prompt in set(_prompts("replies")):
        assert "".join(_words(prompt)) not in folded
        assert not index.overlaps(prompt)


def test_replies_hold_no_broken_characters() -> None:
    assert not any("\ufffd" in str(row["reply"]) for row in _rows("replies"))
