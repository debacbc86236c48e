"""An experiment on disk as the evaluate stage leaves it: every file that a report reads, with mild texts."""

import numpy as np
import yaml

from pipeline.io import paths
from pipeline.io.records import write_csv, write_json, write_jsonl
from tests.apps.report.made_numbers import (
    BASELINES,
    CATEGORIES,
    GUARDS,
    JUDGES,
    LEVEL,
    POLICIES,
    Row,
    before_after,
    card,
    digest,
    histogram,
    interval,
    judged,
    judgement,
    refusal,
    refusal_card,
    trained,
)

NAME = "exp"
# Toxic to every judge below, and to nobody else.
OFFENSIVE = "you silly goose"
# Each would set `window.planted` if any of it were taken for more than text.
PLANTED = (
    "<img src=x onerror=window.planted=1>",
    "</script><script>window.planted=2</script>",
    "<!-- <script>",
    "{{ 6 * 7 }} ${window.planted=3}",
)


class Made:
    """The experiment `exp` in the working directory; everything can be changed and written again."""

    def __init__(self, seeds: tuple[int, ...] = (0, 1), prompts: int = 6, samples: int = 4) -> None:
        self.seeds, self.prompts, self.samples = list(seeds), prompts, samples
        self.evaluation = self._evaluation()
        self.cards = {judge: card(judge) for judge in JUDGES}

    def write(self) -> "Made":
        """Write every file."""
        roster = {"experiments": [NAME], "seeds": self.seeds, "policies": POLICIES}
        paths.roster_file().write_text(yaml.safe_dump(roster), encoding="utf-8")
        write_json(paths.metrics(NAME, "evaluation"), self.evaluation)
        write_json(paths.metrics(NAME, "judge"), {"cards": self.cards})
        source = {"uri": "pypi:made==1.0#folder/", "sha256": {"file.txt": digest("file")}}
        write_json(paths.base_model(NAME) / "manifest.json", {"model": source})
        write_json(paths.raw(NAME) / "manifest.json", {"made": source})
        write_json(paths.scorers(NAME) / "manifest.json", {"minilm": source})
        write_json(paths.reward(NAME) / "manifest.json", {})
        write_json(paths.fluency(NAME) / "manifest.json", {})
        write_csv(paths.plot(NAME, "scores"), list(histogram()))
        for seed in self.seeds:
            self._trainings(seed)
            for policy in POLICIES:
                write_jsonl(paths.completions(NAME, seed, policy), self.completions(seed, policy))
                write_jsonl(paths.scores(NAME, seed, policy), self.scores(seed, policy))
        return self

    def completions(self, seed: int, policy: str) -> list[Row]:
        """Return one policy's completions: every first sample is offensive, every last one empty."""
        return [
            {
                "prompt_id": f"p{prompt}",
                "prompt": f"Once upon time number {prompt}",
                "categories": [CATEGORIES[prompt % 2]],
                "sample": sample,
                "completion": self.completion(seed, policy, prompt, sample),
                "token_ids": [1, 2, 3],
                "finished": True,
                "logprobs": None,
            }
            for prompt in range(self.prompts)
            for sample in range(self.samples)
        ]

    def completion(self, seed: int, policy: str, prompt: int, sample: int) -> str:
        """Return the text of one completion."""
        if sample == 0:
            return f"{OFFENSIVE} {prompt}"
        return "" if sample == self.samples - 1 else f"{policy} told tale {prompt} {sample} in year {seed}"

    def scores(self, seed: int, policy: str) -> list[Row]:
        """Return every judge's score: high for the offensive samples, else low and different everywhere."""
        generator = np.random.default_rng([seed, POLICIES.index(policy)])
        rows = []
        for judge in JUDGES:
            for row in self.completions(seed, policy):
                offensive = row["completion"].startswith(OFFENSIVE)
                low, high = (0.5, 1.0) if offensive else (0.0, 0.2)
                toxicity = float(offensive) if judge == "words" else round(float(generator.uniform(low, high)), 6)
                key = {"prompt_id": row["prompt_id"], "sample": row["sample"]}
                rows.append({**key, "judge": judge, "judge_sha256": digest(judge), "toxicity": toxicity})
        return rows

    def _trainings(self, seed: int) -> None:
        columns = {
            "sft": ["policy/loss"],
            "ppo": ["objective/score", "objective/kl", "policy/loss"],
            "dpo": ["objective/reward_margin", "policy/loss"],
        }
        for method, names in columns.items():
            curve = [
                {"step": step, **{name: round(0.1 * step + index, 3) for index, name in enumerate(names)}}
                for step in range(1, 6)
            ]
            write_csv(paths.curves(NAME, seed, method), curve)
            dev = {"toxicity_mean": 0.1, "perplexity_median": 15.0, "kl": 0.5}
            train = {"updates": 5, "examples": 20}
            adapter = {"adapter_sha256": digest(f"{method} {seed}")}
            write_json(paths.metrics(NAME, method, seed), {"dev": dev, "train": train, **adapter})

    def _evaluation(self) -> Row:
        entries = {policy: self._policy(policy) for policy in POLICIES}
        return {"schema_version": 1, "meta": self._meta(), **entries, **judgement()}

    def _meta(self) -> Row:
        decoding = {"max_new_tokens": 20, "temperature": 1.0, "top_p": 0.9, "rtp_protocol": False, "seed": 0}
        return {
            "primary_judge": "minilm",
            "reward_scorer": "profanity",
            "held_out_judges": ["minilm", "words"],
            "judges": {judge: digest(judge) for judge in JUDGES},
            "policies": POLICIES,
            "prompts": self.prompts,
            "samples_per_prompt": self.samples,
            "analyzed_samples": 2,
            "emt_k": [1, 2, 4],
            "seeds": self.seeds,
            "decoding": decoding,
            "threshold": 0.5,
            "confidence": 0.95,
            "resamples": 200,
            "bootstrap": "clustered by " + ("prompt and seed" if len(self.seeds) > 1 else "prompt"),
            "corrections": "permutation p-values, Holm within each family of comparisons",
            "kl_estimator": "k1, approximate",
            "baselines": {name: {"scorer": scorer, "outputs_per_prompt": 1} for name, scorer in BASELINES.items()},
            "guards": GUARDS,
        }

    def _policy(self, policy: str) -> Row:
        is_method, level = policy != "reference", LEVEL[policy]
        entry: Row = {
            "judges": {judge: judged(policy) for judge in JUDGES},
            "guards": dict.fromkeys(GUARDS, 0.5) | {"perplexity_median": 15 + 10 * level},
            "guards_failed": "perplexity_median" if policy == "ppo" else "",
            "guards_passed": policy != "ppo",
            "before_after": {judge: before_after(policy) for judge in JUDGES},
            "categories": {
                name: {"prompts": self.prompts // 2, "toxicity_mean": interval(level), "difference": interval(-0.1)}
                for name in CATEGORIES
            },
            "seeds": {
                str(seed): {"judges": {judge: {"toxicity_mean": level + 0.01 * seed} for judge in JUDGES}}
                for seed in self.seeds
            },
        }
        return entry | trained(policy) if is_method else entry


class Declining(Made):
    """The same experiment on hostile and benign prompts, with a judge of refusals."""

    def __init__(self, **what: int) -> None:
        super().__init__(**what)
        self.evaluation["meta"]["refusal_sha256"] = digest("refusal")
        limit = {"change": "absolute", "min": None, "max": 0.05}
        self.evaluation["meta"]["guards"] = GUARDS | {"refusal_rate_benign": limit}
        for policy in POLICIES:
            entry, level = self.evaluation[policy], LEVEL[policy]
            entry["refusal"] = refusal(policy, self.prompts)
            entry["guards"]["refusal_rate_benign"] = entry["refusal"]["benign"]["value"]
            levels = {"hostile": level + 0.1, "benign": level - 0.1} | dict.fromkeys(CATEGORIES, level)
            entry["categories"] = {
                name: {"prompts": self.prompts // 2, "toxicity_mean": interval(value)}
                | ({} if policy == "reference" else {"difference": interval(-0.1)})
                for name, value in levels.items()
            }
            if policy != "reference":
                change = entry["refusal"]["benign"]["difference"]
                check = {"change": change, "kind": "absolute", "passed": change["value"] <= 0.05}
                entry["guard_checks"]["refusal_rate_benign"] = limit | check

    def write(self) -> "Declining":
        """Write every file; the card of the judge of refusals stands beside the others."""
        super().write()
        write_json(paths.metrics(NAME, "judge"), {"cards": self.cards, "refusal": refusal_card()})
        return self

    def completions(self, seed: int, policy: str) -> list[Row]:
        """Return one policy's completions, with the label of each prompt among its categories."""
        rows = super().completions(seed, policy)
        for row in rows:
            row["categories"] = [*row["categories"], ["hostile", "benign"][int(row["prompt_id"][1:]) % 2]]
        return rows

    def scores(self, seed: int, policy: str) -> list[Row]:
        """Return every judge's score, and after them whether each completion declines."""
        return super().scores(seed, policy) + [
            {"prompt_id": row["prompt_id"], "sample": row["sample"], "refusal": 0.0}
            | {"refusal_sha256": digest("refusal")}
            for row in self.completions(seed, policy)
        ]


class Planted(Made):
    """The same experiment with prompts, completions and a category that try to break out of the page."""

    def completions(self, seed: int, policy: str) -> list[Row]:
        """Return one policy's completions; those of the prompt 0 and sample 1 are planted, and harmless to judges."""
        rows = super().completions(seed, policy)
        for row in rows:
            row["prompt"] = f"{PLANTED[0]} {row['prompt']}"
            row["categories"] = [f"{row['categories'][0]} {PLANTED[1]}"]
            if row["prompt_id"] == "p0" and row["sample"] == 1:
                row["completion"] = " ".join(PLANTED)
        return rows
