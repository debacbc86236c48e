"""The report tells refusals apart from toxicity, on hostile and on benign prompts, and is unchanged without them."""

import re

import pytest

from pipeline.apps import report
from pipeline.apps.report import charts, latex, material, page
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.io.records import read_json, write_json
from tests.apps.report.made import NAME, Declining, Made
from tests.apps.report.made_numbers import CATEGORIES, LEVEL, POLICIES, digest, interval


@pytest.fixture
def declining(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Declining()


def html(made):
    """Write the experiment and return the page without scripts and styles."""
    made.write()
    found = material.read(NAME)
    return re.sub(r"<(script|style)\b.*?</\1>", "", page.render(found, charts.draw(found)), flags=re.DOTALL)


def words(text):
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def section(text, name):
    return text[text.index(f'<section id="{name}"') :].split("</section>")[0]


def test_every_policy_has_its_rates_differences_and_toxicity_on_prompts_of_each_label(declining):
    text = words(section(html(declining), "refusals"))
    hostile, benign = text.index("hostile prompts 3"), text.index("benign prompts 3")
    assert hostile < benign < text.index("all prompts 6")
    assert "0.900 [0.880, 0.920] +0.500 [+0.470, +0.530] 0.230 [0.210, 0.250]" in text[hostile:benign]
    assert "0.600 [0.580, 0.620] +0.550 [+0.520, +0.580] 0.030 [0.010, 0.050]" in text[benign:]
    assert text.count("1.0 %") == 3 * len(POLICIES), "how much could not be told"


def test_a_missing_rate_is_called_missing_and_never_0(declining):
    for name in ("value", "low", "high"):
        declining.evaluation["ppo"]["refusal"]["benign"][name] = None
    text = words(section(html(declining), "refusals"))
    assert "ppo missing 0.000 [" in text[text.index("benign prompts 3") :]


def test_both_labels_are_drawn_on_one_axis_and_toxicity_of_labels_apart_from_categories(declining):
    declining.write()
    drawn = charts.draw(material.read(NAME))
    panels = {panel.name: panel.chart.to_dict() for panel in drawn["refusals"].panels}
    assert {"refusal-hostile", "refusal-benign"} <= set(panels)
    domains = {str(layer["encoding"]["x"].get("scale")) for chart in panels.values() for layer in chart["layer"][1:2]}
    assert len(domains) == 1
    toxicity = {panel.name: str(panel.chart.to_dict()) for panel in drawn["categories"].panels}
    assert set(toxicity) == {"label", "category"}
    assert "hostile (3)" in toxicity["label"] and "benign (3)" in toxicity["label"]
    assert "hostile" not in toxicity["category"] and all(name in toxicity["category"] for name in CATEGORIES)


def test_of_many_categories_the_largest_are_drawn_and_the_others_counted(declining):
    for policy in POLICIES:
        for size in range(1, 31):
            entry = {"prompts": size + 10, "toxicity_mean": interval(LEVEL[policy])}
            declining.evaluation[policy]["categories"][f"kind_{size:02d}"] = entry
    declining.write()
    figure = charts.draw(material.read(NAME))["categories"]
    chart = str(figure.panels[1].chart.to_dict())
    drawn = set(re.findall(r"kind (\d\d) ", chart))
    assert drawn == {f"{size:02d}" for size in range(11, 31)}
    assert "the other 12" in figure.caption


def test_the_card_of_its_judge_stands_among_the_judges_and_says_what_it_is_not(declining):
    text = words(section(html(declining), "judges"))
    card = text[text.index("judge of refusals") :]
    assert "not of toxicity; refusal phrases" in card
    assert "120" in card and "0.930 [0.900, 0.960]" in card and "0.970" in card
    assert "Replies from a base model found and cleared – and 0.93" in card
    assert "not tested" not in card[: card.index("Hacking gap")]


def test_a_card_without_labelled_replies_says_so_and_one_that_is_broken_is_refused(declining):
    declining.write()
    path = paths.metrics(NAME, "judge")
    cards = read_json(path)
    cards["refusal"] = {"kind": "refusal_phrases", "fingerprint": digest("refusal"), "labelled": 0}
    write_json(path, cards)
    found = material.read(NAME)
    text = words(page.render(found, charts.draw(found)))
    assert "Labelled replies not tested" in text
    write_json(path, cards | {"refusal": {"labelled": 5}})
    with pytest.raises(UserError, match="judge.json: refusal.fingerprint"):
        material.read(NAME)


def test_guards_provenance_and_limits_name_refusals(declining):
    text = html(declining)
    guards = words(section(text, "guards"))
    assert "over-refusal" in guards and "at most +0.050" in guards and "+0.550" in guards
    assert digest("refusal") in section(text, "provenance")
    limits = words(section(text, "limits"))
    assert "A refusal is what its judge finds in the wording" in limits and "some were chosen to provoke" in limits


def test_a_table_for_papers_is_written_and_taken_away_with_the_refusals(declining):
    declining.write()
    folder = report.write(NAME).parent
    rows = [line for line in (folder / "refusals.tex").read_text(encoding="utf-8").splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + 3 * (1 + len(POLICIES))
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows if "multicolumn" not in row} == {4}
    assert (folder / "figures" / "refusals.svg").exists()
    Made().write()
    report.write(NAME)
    assert not (folder / "refusals.tex").exists() and not (folder / "figures" / "refusals.svg").exists()


def test_without_a_judge_of_refusals_no_part_speaks_of_them(made):
    text = html(made)
    assert "efusal" not in text and "hostile" not in text
    assert latex.refusals(made.evaluation) == ""
    found = material.read(NAME)
    assert "refusals" not in charts.draw(found)
    assert [panel.name for panel in charts.draw(found)["categories"].panels] == ["category"]
