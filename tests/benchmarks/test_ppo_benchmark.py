"""The PPO benchmark: which way its ratios point, what it counts, and that both sides get the same."""

import io
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmarks import ppo, ppo_job, results
from benchmarks.text_reward import TextReward
from pipeline.io.errors import UserError


def run(system, repetition, seconds, memory, scores=(0.0, 0.0, 0.0), phases=None):
    """Return a run of three steps whose first is slow, as a warm-up is."""
    times = [10 * seconds, seconds, seconds]
    steps = [
        {"seconds": time, "phases": phases or {}, "tokens": 100, "scores": [score, score], "kl": 0.0}
        for time, score in zip(times, scores, strict=True)
    ]
    return {"system": system, "repetition": repetition, "steps": steps, "peak_memory_mib": memory}


def printed(runs):
    console = Console(file=io.StringIO(), width=80, highlight=False)
    console.print(ppo.table("16x1", runs))
    return console.file.getvalue()


RUNS = [run("ours", 1, 2.0, 1000.0), run("trl", 1, 6.0, 2000.0), run("ours", 2, 4.0, 500.0), run("trl", 2, 8.0, 2000.0)]


def test_a_ratio_is_peer_over_ours_for_time_and_ours_over_peer_for_memory():
    found = ppo.ratios(RUNS)
    assert found["step_time"] == {"median": 2.5, "min": 2.0, "max": 3.0}
    assert found["peak_memory"] == {"median": 0.375, "min": 0.25, "max": 0.5}


def test_the_warm_up_is_not_counted():
    assert ppo.counted(RUNS[0], "seconds") == [2.0, 2.0]
    assert ppo.measurements(RUNS[:1])["tokens a second"] == [50.0, 50.0]


@pytest.mark.parametrize("case", ppo_job.CASES)
def test_trl_gets_numbers_for_all_that_it_cannot_leave_out(case):
    section = ppo_job.section(2, case)
    needed = ("learning_rate", "kl_coef", "clip_range", "value_clip_range", "vf_coef", "gamma", "gae_lambda")
    assert all(isinstance(section[key], float) for key in needed)


def test_the_reward_at_the_end_is_that_of_the_last_third():
    steps = [{"scores": [score]} for score in (0.0, 0.0, 0.0, 0.0, 0.6, 0.9)]
    assert ppo.late_scores({"steps": steps}) == [0.6, 0.9]


def ends(system, *means):
    """Return runs that end with these mean scores, however they vary between prompts."""
    return [
        run(system, number, 1.0, 1.0) | {"steps": [{"scores": [m - 0.4, m + 0.4]}]} for number, m in enumerate(means)
    ]


def test_the_rewards_are_compared_run_by_run():
    found = ppo.rewards([*ends("ours", 0.5, 0.7, 0.9), *ends("trl", 0.4, 0.6, 0.8)])
    assert found["difference"] == pytest.approx(0.1)
    assert (found["low"], found["high"]) == pytest.approx((0.1, 0.1)), "what differs between prompts is no noise"
    spread = ppo.rewards([*ends("ours", 0.5, 0.9), *ends("trl", 0.4, 0.6)])
    # two differences, .1 and .3: Student's quantile with one degree of freedom is 12.706
    assert spread["high"] - spread["difference"] == pytest.approx(12.706 * 0.1, rel=1e-3)
    assert "+0.200, 95 % interval over repetitions -1.071 to +1.471" in ppo.described(spread)


def test_one_repetition_gives_no_interval():
    found = ppo.rewards([*ends("ours", 0.5), *ends("trl", 0.4)])
    assert found["low"] is None and "no interval" in ppo.described(found)


def test_the_table_says_what_was_not_measured_instead_of_zero():
    runs = [run("ours", 1, 2.0, 1000.0), run("trl", 1, 6.0, 2000.0, phases={"complete": 4.25})]
    complete = next(line for line in printed(runs).splitlines() if "complete" in line)
    assert complete.index("not measured") < complete.index("4.25")


def test_the_table_shows_both_sides_and_the_ratio():
    line = next(line for line in printed(RUNS).splitlines() if "seconds a step" in line)
    assert [float(number) for number in re.findall(r"[\d.]+", line)] == [3, 2, 4, 7, 6, 8, 2.5, 2, 3]


def test_the_reward_model_scores_the_completion_without_its_prompt_where_trl_reads_it():
    seen = []

    def score(texts):
        seen.extend(texts)
        return [1.0, 0.5]

    model = TextReward(score, lambda ids: " ".join(map(str, ids)), prompt_tokens=3)
    ids = torch.tensor([[1, 2, 3, 4, 5, 6], [1, 2, 3, 7, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]]).bool()
    backbone = getattr(model, model.base_model_prefix)
    whole = model.score(backbone(input_ids=ids, attention_mask=mask, return_dict=True).hidden_states[-1])
    assert seen == ["4 5 6", "7"]
    assert whole.shape == (2, 6, 1)
    assert whole[0].unique().tolist() == [1.0] and whole[1].unique().tolist() == [0.5]
    assert model.tokens == 4


def test_both_sides_are_paid_by_the_same_scores(root, monkeypatch):
    monkeypatch.chdir(root)
    texts = ["what a lovely morning", "you silly rotten dunce, damn you"]
    scorer = ppo_job.RewardScorer()
    scores = scorer.reward().scores(["a prompt"] * len(texts), texts)
    ours = scorer.taken()
    assert 1 >= ours[0] > ours[1] >= -1
    assert scores == ours
    assert scorer.scores(texts) == ours == scorer.taken()
    assert scorer.taken() == []


@pytest.mark.parametrize("case", ppo_job.CASES)
def test_the_section_is_valid_and_makes_as_many_updates_as_trl(case, root, monkeypatch):
    monkeypatch.chdir(root)
    ppo_section = ppo_job.section(7, case)
    assert ppo_section["steps"] == 7
    # TRL's accumulation counts backward passes across minibatches: more than one would be another algorithm
    assert ppo_section["prompts_per_step"] * ppo_section["samples_per_prompt"] == ppo_section["minibatch_size"]
    assert ppo_section["minibatch_size"] % ppo_section["micro_batch_size"] == 0
    assert ppo_section["max_approx_kl"] is None, "an early end of the updates would be less work, not faster work"


def test_a_job_reads_as_it_was_written(tmp_path):
    job = ppo_job.Job(3, 2, False, {"steps": 1}, [[("id", [1, 2])]])
    job.write(tmp_path / "job.json")
    read = ppo_job.read_job(tmp_path / "job.json")
    assert (read.seed, read.threads, read.ppo) == (3, 2, {"steps": 1})
    assert [[(name, ids) for name, ids in batch] for batch in read.batches] == job.batches


@pytest.mark.parametrize("name", ["ppo", "sampling"])
def test_without_the_model_a_benchmark_names_the_remedy(name, root, tmp_path):
    (tmp_path / "experiments").symlink_to(root / "experiments")
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r}); import runpy; sys.argv = ['x'];"
         f"runpy.run_module('benchmarks.{name}', run_name='__main__')"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "dvc repro reference@smollm2-rtp-0" in ended.stderr and "Traceback" not in ended.stderr
    assert not (tmp_path / "benchmarks").exists()


def test_a_failed_worker_leaves_no_result(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="ended with code"):
        ppo.run_worker(Path(sys.executable), "no.such.module", ppo_job.Job(0, 1, False, {}, []))
    assert list(tmp_path.iterdir()) == []


def test_a_result_names_the_hardware_and_not_the_host(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = {"machine": results.machine(), "versions": results.versions(["torch"]), "runs": [], "ratios": {}}
    text = results.write("made_up", result).read_text(encoding="utf-8")
    assert json.loads(text)["machine"]["cores"] >= 1
    assert socket.gethostname() not in text and str(tmp_path) not in text
    assert re.fullmatch(r"[\d.]+", json.loads(text)["versions"]["torch"])


def test_a_result_without_ratios_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="ratios"):
        results.write("made_up", {"machine": {}, "versions": {}, "runs": []})
    assert list(tmp_path.iterdir()) == []


def test_peak_memory_counts_what_was_held_and_let_go(root):
    program = (
        "from benchmarks import results; before = results.peak_memory_mib(); held = b'x' * (200 * 2**20); del held;"
        "print(results.peak_memory_mib() - before)"
    )
    printed_difference = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert float(printed_difference) == pytest.approx(200, abs=20)
