"""The audit of the seeds: the page says what the program computes, and the program what other routes compute."""

import json
import math
import re
import shutil

import numpy as np
import pytest
from scipy import stats

from benchmarks import seed_audit, seed_tables
from pipeline.io import records
from pipeline.io.errors import UserError

MARKED = re.compile(r"<!-- table \S+ -->.*?<!-- end -->", re.DOTALL)


@pytest.fixture
def place(root, tmp_path, monkeypatch):
    """Return a working directory with copies of the data and the page."""
    for path in (seed_audit.SCORES, seed_audit.RERUNS, seed_audit.PAGE):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy(root / path, tmp_path / path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def found(root):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        return seed_audit.audit()


@pytest.fixture
def page(root):
    return (root / seed_audit.PAGE).read_text(encoding="utf-8")


def test_the_page_and_the_result_are_what_the_program_writes(place, root, page, found, capsys):
    seed_audit.main()
    assert (place / seed_audit.PAGE).read_text(encoding="utf-8") == page
    assert (place / seed_audit.RESULT).read_bytes() == (root / seed_audit.RESULT).read_bytes()
    printed = capsys.readouterr().out
    for table in seed_tables.tables(found).values():
        assert table in printed and table in page


def test_what_stands_outside_the_tables_is_stated_by_the_seeds_and_not_computed(page):
    stated = {".0336", ".0273", ".9943", ".6"}  # means and p of the design notes, a reward as printed
    settings = {"0.7", "0.9", "0.8", "0.2"}  # of decoding, of the "value", of the data set's name
    assert set(re.findall(r"\d*\.\d+", MARKED.sub("", page))) == stated | settings


def test_every_file_and_test_that_the_page_names_is_there(root, page):
    named = set(re.findall(r"`((?:tests|pipeline|results|benchmarks|docs)/[\w./-]+)`", page))
    assert len(named) > 20
    assert [path for path in sorted(named) if not (root / path).exists()] == []


def test_no_row_of_the_page_is_ordered_by_toxicity(page):
    rows = re.findall(r"^\| (base|sft|ppo|dpo) \|", page, re.MULTILINE)
    assert rows == 2 * ["base", "sft", "ppo", "dpo"]  # the order of the seed's README, in both tables
    assert "None of this ranks methods" in page


def test_seven_prompts_hold_the_means_of_all_other_rows(found):
    policies = found["tinyllama"]["policies"]
    low, high = policies["base"]["t"]
    for other in ("sft", "ppo", "dpo"):
        assert low < policies[other]["mean"] < high
    assert high - low > 5 * (policies["dpo"]["t"][1] - policies["dpo"]["t"][0])


def test_p_of_seven_prompts_is_that_of_scipy_over_all_flips(found, place):
    rows = seed_audit.read_scores()
    scores = {name: np.array([float(row["toxicity"]) for row in rows[name]]) for name in ("base", "ppo")}
    differences = scores["ppo"] - scores["base"]
    exact = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    ours = found["tinyllama"]["same_prompts"]["ppo - base"]["p"]
    assert ours == pytest.approx(exact.pvalue)
    assert ours * 128 == pytest.approx(round(ours * 128))


def test_what_the_page_says_of_the_pairs_holds(found):
    tinyllama = found["tinyllama"]
    seven = tinyllama["same_prompts"]["ppo - base"]
    assert seven["t"][0] < 0 < seven["t"][1]
    assert 0.9 < seven["smallest_detectable"] / tinyllama["policies"]["base"]["mean"] < 1.1
    for one in tinyllama["no_common_prompt"].values():
        assert one["welch"][0] < 0 < one["welch"][1] and one["p"] > 0.05
    low, high = tinyllama["same_prompts"]["dpo - sft"]["t"]
    assert low > 0 and tinyllama["same_prompts"]["dpo - sft"]["p"] < 0.001


def test_all_but_sft_scored_the_prompt_too(found):
    policies, scored = (found["tinyllama"][key] for key in ("policies", "scored"))
    echoing = {name for name, one in scored.items() if one["begin_with_prompt"] == policies[name]["n"]}
    assert echoing == {"base", "ppo", "dpo"} and scored["sft"]["begin_with_prompt"] == 0
    assert all(one["words"] > one["prompt_words"] for one in scored.values())


def test_every_pair_says_what_else_differs(found):
    pairs = {**found["tinyllama"]["same_prompts"], **found["tinyllama"]["no_common_prompt"]}
    assert set(pairs) == set(seed_tables.ALSO)


def test_one_rerun_of_the_lab_cannot_tell_its_change(found):
    reruns, stated = found["lab"]["reruns"], found["lab"]["stated"]
    assert reruns["change"]["noise_of_one_run"] > 4 * abs(stated["change"])
    assert reruns["before"]["max"] - reruns["before"]["min"] > abs(stated["change"])
    assert stated["smallest_detectable"] > stated["before"]["mean"]
    assert stated["p"] > 0.5


def test_intervals_of_the_stated_run_shrink_as_more_is_assumed(found):
    for when in ("before", "after"):
        one = found["lab"]["stated"][when]
        widths = [one[key][1] - max(0.0, one[key][0]) for key in ("bounded", "widest_sd", "usual_sd")]
        assert widths == sorted(widths, reverse=True) and widths[0] > widths[-1]


def test_zeros_and_ones_spread_as_wide_as_scores_of_their_mean_can():
    assert seed_audit.widest_sd(0.25, 4) == pytest.approx(np.std([0, 0, 0, 1], ddof=1))
    for scores in np.random.default_rng(0).beta(0.05, 0.5, (200, 11)):
        assert np.std(scores, ddof=1) <= seed_audit.widest_sd(scores.mean(), 11)


def test_every_sd_that_is_printed_can_be_one_of_scores(place):
    reruns = seed_audit.read_reruns()
    for when in ("before", "after"):
        for mean, sd in zip(reruns[when], reruns[f"{when}_sd"], strict=True):
            assert sd * math.sqrt(1.1) <= seed_audit.widest_sd(mean, 11)


def test_as_many_dialogues_as_needed_find_the_stated_change_four_times_out_of_five(found):
    stated = found["lab"]["stated"]
    n = stated["dialogues_needed"]
    sds = [stated[when]["sd"] for when in ("before", "after")]
    sd = math.sqrt(sum(one**2 for one in sds) / 2)
    generator = np.random.default_rng(0)
    after, before = (generator.normal(shift, sd, (2000, n)) for shift in (stated["change"], 0.0))
    share = float((stats.ttest_ind(after, before, axis=1).pvalue < 0.05).mean())
    assert share == pytest.approx(0.8, abs=0.03)


def test_scores_whose_mean_is_not_the_stated_one_are_refused(place):
    text = (place / seed_audit.SCORES).read_text(encoding="utf-8")
    (place / seed_audit.SCORES).write_text(text.replace("0.840229", "0.940229"), encoding="utf-8")
    with pytest.raises(UserError, match="expected base to have the mean 0.4095"):
        seed_audit.audit()


def test_a_page_without_a_place_for_a_table_is_refused_and_kept(place, page):
    (place / seed_audit.PAGE).write_text(page.replace("<!-- table echo -->", ""), encoding="utf-8")
    before = (place / seed_audit.PAGE).read_bytes()
    with pytest.raises(UserError, match="expected places for"):
        seed_audit.main()
    assert (place / seed_audit.PAGE).read_bytes() == before
    assert not (place / seed_audit.RESULT).exists()


def test_the_result_is_sorted_and_rounded(root):
    text = (root / seed_audit.RESULT).read_text(encoding="utf-8")
    assert text == records.json_text(json.loads(text))
