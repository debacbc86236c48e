"""The card of the judge of refusals: measured on labelled replies, apart from the judges of toxicity."""

import json
from pathlib import Path

import pytest
import yaml

from pipeline.apps.stage import Stage
from pipeline.config.loader import load
from pipeline.config.sections import RefusalSection
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.io.records import read_json
from pipeline.scorers.cards import describe_refusal
from pipeline.scorers.loading import load_refusal
from pipeline.tracking.recording import NullRun
from stages import judge
from tests.scorers.tiny_judges import write_experiment

ROOT = Path(__file__).resolve().parents[2]
SCORER = {"kind": "refusal_phrases", "words": 40}
LABELLED = {"file": "replies/replies.jsonl", "field": "reply", "label": "refusal"}
DECLINES, ANSWERS, TURNS_AWAY = "I can't help with that.", "Here you are.", "Ask your mother."
ROWS = [
    *[{"reply": DECLINES, "refusal": True, "origin": "written"}] * 3,
    *[{"reply": TURNS_AWAY, "refusal": True, "origin": "model"}] * 1,
    *[{"reply": ANSWERS, "refusal": False, "origin": "model"}] * 8,
    *[{"reply": DECLINES, "refusal": False, "origin": "written"}] * 2,
]


def section(labelled=LABELLED):
    return RefusalSection.model_validate({"scorer": SCORER, "labelled": labelled})


def write(folder, rows):
    path = folder / LABELLED["file"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))


def described(folder, rows):
    write(folder, rows)
    return describe_refusal(load_refusal(section()), section(), folder)


def test_the_figures_are_shares_of_refusals_found_and_of_others_let_pass(tmp_path):
    card = described(tmp_path, ROWS)
    assert (card["scorer"], card["kind"], card["labelled"]) == ("refusal", "refusal_phrases", 14)
    assert (card["sensitivity"]["value"], card["sensitivity"]["windows"]) == (0.75, 4)
    assert (card["specificity"]["value"], card["specificity"]["windows"]) == (0.8, 10)
    for rate in (card["sensitivity"], card["specificity"]):
        assert 0 <= rate["low"] < rate["value"] < rate["high"] <= 1


def test_every_origin_has_figures_of_its_own(tmp_path):
    found = described(tmp_path, ROWS)["by_origin"]
    shares = {origin: {name: rate["value"] for name, rate in rates.items()} for origin, rates in found.items()}
    assert shares == {
        "model": {"sensitivity": 0, "specificity": 1},
        "written": {"sensitivity": 1, "specificity": 0},
    }


def test_an_origin_without_refusals_has_no_sensitivity(tmp_path):
    found = described(tmp_path, [row for row in ROWS if row["reply"] != TURNS_AWAY])["by_origin"]
    assert set(found["model"]) == {"specificity"} and found["model"]["specificity"]["windows"] == 8


def test_without_origins_there_are_no_figures_by_them(tmp_path):
    card = described(tmp_path, [{key: row[key] for key in ("reply", "refusal")} for row in ROWS])
    assert "by_origin" not in card and card["labelled"] == 14


def test_without_labelled_replies_the_card_names_the_judge_alone(tmp_path):
    scorer = load_refusal(section(None))
    card = describe_refusal(scorer, section(None), tmp_path)
    assert card["fingerprint"] == scorer.fingerprint and card["labelled"] == 0
    assert "sensitivity" not in card and "specificity" not in card


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"refusal": True, "origin": "model"}, r"replies\.jsonl:15: reply: expected a text"),
        ({"reply": 1, "refusal": True, "origin": "model"}, r"replies\.jsonl:15: reply: expected a text"),
        ({"reply": ANSWERS, "origin": "model"}, r"replies\.jsonl:15: refusal: expected true or false"),
        ({"reply": ANSWERS, "refusal": 0, "origin": "model"}, r"replies\.jsonl:15: refusal: expected true or false"),
        ({"reply": ANSWERS, "refusal": False}, r"replies\.jsonl:15: origin: expected a name"),
        ("no json\n", r"replies\.jsonl:15: expected one JSON object"),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        described(tmp_path, [*ROWS, row])


@pytest.mark.parametrize(("kept", "lacking"), [(True, "false"), (False, "true")])
def test_a_file_with_one_kind_of_reply_measures_nothing(tmp_path, kept, lacking):
    with pytest.raises(UserError, match=rf"replies\.jsonl: expected a reply of which 'refusal' is {lacking}"):
        described(tmp_path, [row for row in ROWS if row["refusal"] is kept])


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"replies\.jsonl: not found"):
        describe_refusal(load_refusal(section()), section(), tmp_path)


def test_on_the_replies_of_the_project_a_refusal_is_found_more_often_than_an_answer_is_taken_for_one():
    labelled = LABELLED | {"file": "replies.jsonl"}
    card = describe_refusal(load_refusal(section()), section(labelled), ROOT / "experiments" / "chat")
    assert card["sensitivity"]["low"] > 1 - card["specificity"]["low"]
    assert set(card["by_origin"]) == {"smollm2-135m-instruct", "written"}


class TestStage:
    @pytest.fixture
    def experiment(self, tmp_path, monkeypatch):
        """Work in a folder with an experiment whose judges count words, and labelled replies."""
        monkeypatch.chdir(tmp_path)
        write_experiment(None, judges=("words", "paid"))
        write(paths.raw("exp"), ROWS)

    def run(self, refusal):
        path = paths.experiment_file("exp")
        file = yaml.safe_load(path.read_text()) | {"refusal": refusal}
        path.write_text(yaml.safe_dump(file))
        judge.main(Stage(name="judge", experiment="exp", settings=load("exp", judge.NODE.sections), run=NullRun()))
        return read_json(paths.metrics("exp", "judge"))

    def test_the_card_stands_beside_those_of_toxicity_and_not_among_them(self, experiment):
        written = self.run({"scorer": SCORER, "labelled": LABELLED})
        assert set(written) == {"cards", "refusal"} and set(written["cards"]) == {"words", "paid"}
        assert written["refusal"]["sensitivity"]["value"] == 0.75
        assert written["refusal"]["fingerprint"] == load_refusal(section()).fingerprint
        assert read_json(paths.judge("exp") / "card.json") == written

    def test_where_refusals_are_not_judged_there_is_no_card_of_them(self, experiment):
        assert set(self.run(None)) == {"cards"}

    def test_nothing_is_written_where_a_row_is_malformed(self, experiment):
        write(paths.raw("exp"), [*ROWS, {"reply": ANSWERS}])
        with pytest.raises(UserError, match=r"data/exp/raw/replies/replies\.jsonl:15"):
            self.run({"scorer": SCORER, "labelled": LABELLED})
        assert not paths.judge("exp").exists() and not paths.metrics("exp", "judge").exists()
