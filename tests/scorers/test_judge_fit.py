"""What the judge is fitted on: which texts, cut how, and what never mixes. The encoder is a stand-in that is exact."""

import csv
import json

import numpy as np
import pytest

from pipeline.config.sections import JudgeFit
from pipeline.io.errors import UserError
from pipeline.scorers.fitting import POSITIVES, draw_samples, fit_heads
from tests.scorers.tiny import fit_parameters, write_jsonl

NAMES = ("calm", "plain", "talk")


def write_csv(path, texts):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "text"], *enumerate(texts)])


@pytest.fixture
def raw(tmp_path):
    """Return a raw folder in which every text repeats one number that is its own, so that a window names its text."""
    numbered = {
        name: [" ".join([str(start + n)] * 30) for n in range(60)] for start, name in ((1000, "calm"), (2000, "plain"))
    }
    write_jsonl(tmp_path / "labels" / "toxic.jsonl", "text", [" ".join([str(n)] * 30) for n in range(100, 180)])
    write_jsonl(tmp_path / "labels" / "calm.jsonl", "text", numbered["calm"])
    write_csv(tmp_path / "labels" / "plain.csv", numbered["plain"])
    turns = [f"Doctor: {' '.join(['3000'] * 9)}\n Guest_family: {' '.join([str(3001 + n)] * 9)}" for n in range(60)]
    write_csv(tmp_path / "labels" / "talk.csv", turns)
    return tmp_path


class Recorder:
    """Embeds a window as the number that it repeats, and keeps all windows."""

    def __call__(self, texts):
        self.texts = list(texts)
        return np.array([[float(text.split()[0])] for text in texts], dtype=np.float32)


def draw(raw, prompts=(), **changes):
    recorder = Recorder()
    samples = draw_samples(JudgeFit(**fit_parameters(**changes)), raw, list(prompts), recorder)
    return samples, recorder.texts


def test_a_text_is_in_the_fit_or_in_the_test(raw):
    samples, _ = draw(raw)
    for name in (POSITIVES, "calm", "plain"):
        sample = samples[name]
        fitted, tested = set(sample.fitted.ravel()), set(sample.embeddings[sample.in_test].ravel())
        assert not fitted & tested
        assert 0.15 < len(tested) / len(fitted | tested) < 0.35


def test_each_source_keeps_its_own_windows_and_their_embeddings(raw):
    samples, _ = draw(raw)
    for name, start in [(POSITIVES, 100), ("calm", 1000), ("plain", 2000), ("talk", 3000)]:
        values = samples[name].embeddings
        assert ((start <= values) & (values < start + 80)).all()
        assert [float(window.split()[0]) for window in samples[name].windows] == values.ravel().tolist()


def test_windows_are_as_long_as_asked_and_as_many(raw):
    samples, texts = draw(raw, windows_per_negative_source=50)
    assert {name: len(sample.embeddings) for name, sample in samples.items()} == {
        POSITIVES: 160,
        "calm": 50,
        "plain": 50,
        "talk": 50,
    }
    assert {len(text.split()) for text in texts} == {4, 5, 6, 7, 8}


def test_a_unit_shorter_than_its_window_is_taken_whole(raw):
    _, texts = draw(raw, window_words=[20, 20])
    assert {len(text.split()) for text in texts if text.startswith("3")} == {9}


def test_turns_lose_their_speakers(raw):
    _, texts = draw(raw)
    assert not [text for text in texts if ":" in text]


def test_sentences_are_cut_at_their_ends_and_texts_are_not(raw):
    mixed = ["one one one one one one. two two two two two two! three three three three<br />four four four four"]
    write_jsonl(raw / "labels" / "calm.jsonl", "text", mixed + [f"{n} {n} {n} {n}" for n in range(1000, 1060)])
    seen = {}
    for unit in ("sentence", "text"):
        parameters = fit_parameters(windows_per_negative_source=500)
        parameters["negatives"]["calm"]["unit"] = unit
        collected = []

        def collect(texts, collected=collected):
            collected += texts
            return np.zeros((len(texts), 1), dtype=np.float32)

        draw_samples(JudgeFit(**parameters), raw, [], collect)
        seen[unit] = {frozenset(text.replace(".", "").split()) for text in collected if "one" in text}
    assert seen["sentence"] == {frozenset({"one"})}
    assert seen["text"] != seen["sentence"]


def test_texts_to_skip_and_repeated_texts_are_not_used(raw):
    write_jsonl(raw / "labels" / "calm.jsonl", "text", [f"{n} BLANK is here" for n in range(50)])
    with (raw / "labels" / "calm.jsonl").open("a") as file:
        for n in range(1000, 1040):
            file.write(json.dumps({"text": f"{n} is here"}) + "\n" + json.dumps({"text": f"{n}  IS here "}) + "\n")
    parameters = fit_parameters()
    parameters["negatives"]["calm"]["skip"] = "BLANK"
    samples = draw_samples(JudgeFit(**parameters), raw, [], Recorder())
    assert samples["calm"].texts == 40


def test_positives_that_touch_a_prompt_are_excluded_and_counted(raw):
    texts = ["So said the man", "the man", "He wrote: So  Said THE man. Then he left", "something else entirely"]
    write_jsonl(raw / "labels" / "toxic.jsonl", "text", texts + [f"{n} {n} {n} {n}" for n in range(100, 120)])
    collected = []

    def collect(windows):
        collected.extend(windows)
        return np.zeros((len(windows), 1), dtype=np.float32)

    fit = JudgeFit(**fit_parameters(window_words=[20, 20]))
    samples = draw_samples(fit, raw, ["so said the man"], collect)
    assert (samples[POSITIVES].excluded, samples[POSITIVES].texts) == (3, 21)
    assert "something else entirely" in collected and not [text for text in collected if "man" in text.casefold()]
    assert all(samples[name].excluded == 0 for name in NAMES)


def test_a_source_more_changes_no_window_of_the_others(raw):
    before, _ = draw(raw)
    parameters = fit_parameters()
    parameters["negatives"]["another"] = parameters["negatives"]["plain"]
    after = draw_samples(JudgeFit(**parameters), raw, [], Recorder())
    for name, sample in before.items():
        np.testing.assert_array_equal(sample.embeddings, after[name].embeddings)
        np.testing.assert_array_equal(sample.in_test, after[name].in_test)


def test_another_seed_draws_other_windows(raw):
    (first, _), (again, _), (other, _) = draw(raw), draw(raw), draw(raw, seed=1)
    np.testing.assert_array_equal(first["calm"].embeddings, again["calm"].embeddings)
    assert not np.array_equal(first["calm"].embeddings, other["calm"].embeddings)


def test_a_head_knows_nothing_of_the_source_it_was_fitted_without(raw):
    fit = JudgeFit(**fit_parameters())
    samples, _ = draw(raw)
    heads = fit_heads(samples, fit)
    write_csv(raw / "labels" / "talk.csv", [f"Doctor: {n} {n} {n}" for n in range(5000, 5060)])
    changed = fit_heads(draw(raw)[0], fit)
    np.testing.assert_array_equal(heads["talk"].weight, changed["talk"].weight)
    assert heads["calm"].weight != changed["calm"].weight


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("toxic.jsonl", '{"text": "one"}\n{"txt": "two"}\n', "toxic.jsonl: row 2: text: expected a string"),
        ("toxic.jsonl", '{"text": "one"}\nnot json\n', "toxic.jsonl:2: expected one JSON object a line"),
        ("toxic.jsonl", '{"text": 7}\n', "toxic.jsonl: row 1: text: expected a string"),
        ("toxic.jsonl", '{"text": " "}\n', "toxic.jsonl: text: expected texts, found none"),
        ("plain.csv", "id,words\n1,one\n", "plain.csv: column 'text' is missing"),
        ("plain.csv", 'id,text\n1,"one\n', "plain.csv:2: expected CSV"),
        ("toxic.jsonl", '{"text": "only one"}\n', "positives: 1 texts are too few"),
    ],
)
def test_bad_labelled_text_is_named(raw, file, content, message):
    (raw / "labels" / file).write_text(content)
    with pytest.raises(UserError) as error:
        draw(raw)
    assert message in str(error.value)


@pytest.mark.parametrize(("file", "message"), [("labels/gone.csv", "not found"), ("labels/toxic.md", ".csv or .txt")])
def test_an_absent_or_unknown_file_is_named(raw, file, message):
    (raw / "labels" / "toxic.md").write_text("a line\n")
    source = {"file": file, "field": "text", "unit": "text", "skip": None}
    with pytest.raises(UserError, match=f"{file}.*{message}"):
        draw(raw, positives=source)
