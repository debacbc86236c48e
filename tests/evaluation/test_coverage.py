"""Do 95 % intervals hold the truth 95 times in 100? Small experiments are drawn from populations that are known."""

from dataclasses import dataclass

import numpy as np
import pytest

from pipeline.evaluation import judges, statistics, toxicity

PROMPTS, SAMPLES, RESAMPLES = 120, 8, 1000
K = 4  # of the expected maximum: fewer than the samples it is estimated from
THRESHOLD = 0.5


@dataclass(frozen=True)
class Population:
    """A reference and a policy that is less toxic on most prompts; most prompts are harmless, a few very toxic.

    `of_seeds` is the standard deviation of what training with another seed adds to the policy's toxicity, on all
    prompts alike, and `of_cells` of what it adds to each prompt by itself. The reference is not trained.
    """

    of_seeds: float = 0.0
    of_cells: float = 0.05

    def draw(self, generator, prompts, seeds):
        """Draw toxicities [P, S, K] of the reference and of the policy."""
        level = generator.beta(0.8, 3.2, size=(prompts, 1, 1))
        change = generator.normal(-0.05, 0.1, size=(prompts, 1, 1))
        change = change + self.of_seeds * generator.normal(size=(1, seeds, 1))
        return self._sampled(generator, level, change, (prompts, seeds))

    def truth(self):
        """Return the mean of every statistic over prompts and seeds: here each prompt has a seed of its own."""
        generator, prompts = np.random.default_rng(99), 400_000
        level = generator.beta(0.8, 3.2, size=(prompts, 1, 1))
        change = generator.normal(-0.05, 0.1, size=(prompts, 1, 1))
        change = change + self.of_seeds * generator.normal(size=(prompts, 1, 1))
        drawn = self._sampled(generator, level, change, (prompts, 1))
        return {name: array.mean() for name, array in statistics_of(*drawn).items()}

    def _sampled(self, generator, level, change, shape):
        change = change + self.of_cells * generator.normal(size=(*shape, 1))
        noise = generator.normal(0, 0.15, size=(2, *shape, SAMPLES))
        return [np.clip(mean + one, 0, 1) for mean, one in zip((level, level + change), noise, strict=True)]


def statistics_of(reference, policy):
    """Return [P, S] arrays: two metrics and the expected maximum at k' of the policy, and their differences."""
    cells = []
    for drawn in (policy, reference):
        found = toxicity.prompt_statistics(drawn, THRESHOLD)
        kept = {name: found[name] for name in ("toxicity_mean", "toxic_fraction")}
        cells.append(kept | {"expected maximum at 4": toxicity.expected_max_at(drawn, K)})
    own, others = cells
    return own | {f"difference of {name}": own[name] - others[name] for name in own}


def coverage(population, seeds, runs):
    """Return for every statistic how often the interval of a small experiment holds the population's value."""
    generator, truth = np.random.default_rng(0), population.truth()
    hits = dict.fromkeys(truth, 0)
    for run in range(runs):
        cells = statistics_of(*population.draw(generator, PROMPTS, seeds))
        resampling = statistics.draw(PROMPTS, seeds, RESAMPLES, run)
        for name, found in statistics.mean_intervals(cells, resampling, 0.95).items():
            hits[name] += found.low <= truth[name] <= found.high
    return {name: round(count / runs, 3) for name, count in hits.items()}


@pytest.mark.slow
def test_with_one_seed_intervals_hold_the_truth_as_often_as_they_say():
    covered = coverage(Population(), seeds=1, runs=1200)
    assert all(0.93 <= share <= 0.97 for share in covered.values()), covered


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of_seeds", "at_least", "at_most"),
    [(0.0, 0.93, 0.985), (0.02, 0.93, 0.985), (0.05, 0.93, 0.975), (0.15, 0.87, 0.97)],
    ids=["none", "moderate", "large", "down to the floor"],
)
def test_with_three_seeds_intervals_hold_the_mean_over_prompts_and_seeds(of_seeds, at_least, at_most):
    """What three seeds allow: see the coverage stated in statistics.py.

    How much seeds differ is hardly to be known from three: where it is little, intervals err on the safe side. Where
    it is so much that some seeds come down to no toxicity at all, their distribution is skewed, three of them do not
    show its tail, and intervals are too narrow, as Student's t of three means is.
    """
    covered = coverage(Population(of_seeds), seeds=3, runs=600)
    assert all(at_least <= share <= at_most for share in covered.values()), covered


@pytest.mark.slow
def test_a_corrected_prevalence_holds_the_share_of_texts_that_are_toxic():
    sensitivity, specificity, windows, runs = 0.8, 0.9, 200, 600
    generator = np.random.default_rng(0)
    truth, hits = 0.2, 0
    for run in range(runs):
        share = generator.beta(0.5, 0.5 / truth - 0.5, size=(PROMPTS, 1))  # of each prompt's samples
        toxic = generator.random((PROMPTS, 1, SAMPLES)) < share[:, :, None]
        flagged = generator.random(toxic.shape) < np.where(toxic, sensitivity, 1 - specificity)
        card = [
            {"value": generator.binomial(windows, rate) / windows, "windows": windows}
            for rate in (sensitivity, specificity)
        ]
        resampling = statistics.draw(PROMPTS, 1, RESAMPLES, run)
        found = judges.corrected_prevalence(flagged.mean(axis=2), resampling, *card, 0.95, seed=run)
        hits += found.low <= truth <= found.high
    assert 0.93 <= hits / runs <= 0.975, hits / runs
