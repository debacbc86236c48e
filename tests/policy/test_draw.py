"""One token from logits: the right frequencies, the right nucleus, the right log-probability."""

import pytest
import torch
from scipy.stats import chisquare
from transformers import TopPLogitsWarper

from pipeline.policy.sampling import draw, keyed_uniforms

LAST = 0.9999999999999999  # the largest float64 below 1


def uniforms(count: int) -> torch.Tensor:
    return torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def random_logits(vocabulary: int, scale: float = 2.0, rows: int | None = None, seed: int = 0) -> torch.Tensor:
    shape = (vocabulary,) if rows is None else (rows, vocabulary)
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def nucleus_of(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """Return the truncated probabilities that Transformers samples from."""
    return torch.softmax(TopPLogitsWarper(top_p)(torch.zeros(1, 1), logits[None].double())[0], dim=-1)


def assert_frequencies(tokens: torch.Tensor, expected: torch.Tensor) -> None:
    """Compare counts with probabilities by a chi-squared test, neighboring tokens pooled into at most 50 cells."""
    counts = torch.bincount(tokens, minlength=len(expected)).double()
    wanted = expected.double() / expected.double().sum() * len(tokens)
    assert counts[expected == 0].sum() == 0, "a token of probability 0 was drawn"
    cells = ((wanted.cumsum(0) - wanted) / len(tokens) * 50).long()
    pooled = torch.zeros(2, 51, dtype=torch.float64).index_add_(1, cells, torch.stack([counts, wanted]))
    large = pooled[1] >= 5
    observed, hoped = torch.cat([pooled[:, large], pooled[:, ~large].sum(dim=1, keepdim=True)], dim=1)
    assert abs(observed[-1] - hoped[-1]) < 6 * (1 + hoped[-1] ** 0.5)
    if large.sum() > 1:
        hoped = hoped[:-1] * observed[:-1].sum() / hoped[:-1].sum()
        assert chisquare(observed[:-1].tolist(), hoped.tolist()).pvalue > 1e-4


@pytest.mark.parametrize("vocabulary", [5, 256, 300, 512])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_draws_are_distributed_as_the_softmax_says(vocabulary, temperature):
    logits = random_logits(vocabulary)
    tokens = draw(logits.expand(8_000, -1), uniforms(8_000), temperature, 1.0).tokens
    assert_frequencies(tokens, torch.softmax(logits / temperature, dim=-1))


@pytest.mark.parametrize("vocabulary", [5, 300, 600])
@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9])
def test_the_nucleus_is_that_of_transformers(vocabulary, top_p):
    logits = random_logits(vocabulary)
    nucleus = nucleus_of(logits, top_p)
    tokens = draw(logits.expand(8_000, -1), uniforms(8_000), 1.0, top_p).tokens
    assert set(tokens.tolist()) <= set(nucleus.nonzero().flatten().tolist())
    assert_frequencies(tokens, nucleus)


def test_temperature_comes_before_the_nucleus():
    logits = random_logits(40)
    nucleus = nucleus_of(logits / 2, 0.8)
    tokens = draw(logits.expand(8_000, -1), uniforms(8_000), 2.0, 0.8).tokens
    assert_frequencies(tokens, nucleus)


def test_a_nucleus_wider_than_the_guess_is_found():
    logits = random_logits(2000, scale=0.05)
    nucleus = nucleus_of(logits, 0.9)
    assert (nucleus > 0).sum() > 1500
    narrow = random_logits(2000, scale=4.0)  # rows of both kinds in one batch
    tokens = draw(torch.stack([logits, narrow]).repeat(3_000, 1), uniforms(6_000), 1.0, 0.9).tokens
    assert_frequencies(tokens[::2], nucleus)
    assert_frequencies(tokens[1::2], nucleus_of(narrow, 0.9))


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_log_probabilities_are_those_at_temperature_1_without_truncation(top_p):
    logits = random_logits(300, rows=500, scale=4.0)
    tokens, logprobs, _ = draw(logits, uniforms(500), 0.7, top_p)
    expected = torch.log_softmax(logits.double(), dim=-1).gather(1, tokens[:, None]).squeeze(1)
    torch.testing.assert_close(logprobs.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_entropies_are_those_at_temperature_1_without_truncation(top_p):
    logits = random_logits(300, rows=500, scale=4.0)
    expected = torch.distributions.Categorical(logits=logits.double()).entropy()
    found = draw(logits, uniforms(500), 0.7, top_p).entropy
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("top_p", [1.0, 0.9])
@pytest.mark.parametrize("uniform", [0.0, LAST])
@pytest.mark.parametrize("vocabulary", [5, 256, 300, 1000])
def test_the_ends_of_the_unit_interval_draw_a_possible_token(vocabulary, uniform, top_p):
    logits = random_logits(vocabulary, rows=200, scale=3.0)
    logits[:, ::3] = -torch.inf  # the first and, for some sizes, the last token can never be drawn
    logits[:, -2:] = -torch.inf
    tokens, logprobs, _ = draw(logits, torch.full((200,), uniform, dtype=torch.float64), 1.0, top_p)
    assert torch.isfinite(logits.gather(1, tokens[:, None])).all()
    assert torch.isfinite(logprobs).all()


def test_a_row_is_drawn_the_same_in_any_company():
    logits, numbers = random_logits(700, rows=64), uniforms(64)
    together = draw(logits, numbers, 1.0, 0.9).tokens
    alone = torch.cat([draw(logits[row : row + 1], numbers[row : row + 1], 1.0, 0.9).tokens for row in range(64)])
    assert torch.equal(together, alone)


def test_noise_depends_on_every_key_and_on_no_length():
    noise = keyed_uniforms(0, "p", 0, 50)
    assert torch.equal(noise, keyed_uniforms(0, "p", 0, 80)[:50])
    others = [keyed_uniforms(1, "p", 0, 50), keyed_uniforms(0, "q", 0, 50), keyed_uniforms(0, "p", 1, 50)]
    assert all((noise != other).all() for other in others)
    assert noise.dtype == torch.float64 and noise.min() >= 0 and noise.max() < 1


def test_noise_is_uniform_over_prompts_and_samples():
    noise = torch.cat([keyed_uniforms(3, f"p{prompt}", sample, 20) for prompt in range(50) for sample in range(8)])
    assert chisquare(torch.histc(noise, 20, 0, 1).tolist()).pvalue > 1e-4
