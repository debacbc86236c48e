"""Does a sampler draw from the model's own distribution? Tests whose p-values are right however long a sample is.

The truth is what one plain forward pass of the model says of the sampled tokens.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

AT_ONCE = 8  # sequences a forward pass: their logits over the whole vocabulary are held in float64
LEAST_EXPECTED = 5.0  # draws a bin, the usual condition of the chi-square approximation


class Drawn(NamedTuple):
    """One sampled completion: the prompt's id and tokens, and the tokens drawn after it, the one that ended it last."""

    prompt_id: str
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]


class Exact(NamedTuple):
    """The model's word on one completion, token by token, [T]: its probability, and the mass of the more probable."""

    probability: Floats
    above: Floats


def exact(model: Any, drawn: Sequence[Drawn]) -> list[Exact]:
    """Return what plain forward passes of `model` say of every completion, in float64 from the logits on."""
    import torch

    found: list[Exact] = []
    device = next(model.parameters()).device
    for start in range(0, len(drawn), AT_ONCE):
        part = drawn[start : start + AT_ONCE]
        rows = [torch.tensor(item.prompt + item.tokens) for item in part]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
        attended = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True).to(device)
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=attended, use_cache=False).logits
        for row, item in enumerate(part):
            first, last = len(item.prompt), len(item.prompt) + len(item.tokens)
            probabilities = torch.softmax(logits[row, first - 1 : last - 1].double(), dim=-1)
            own = probabilities.gather(1, ids[row, first:last, None])
            above = torch.where(probabilities > own, probabilities, 0.0).sum(dim=-1)
            found.append(Exact(own.squeeze(1).cpu().numpy(), above.cpu().numpy()))
    return found


def first_token_probabilities(model: Any, prompt: Sequence[int]) -> Floats:
    """Return the model's distribution [V] of the first new token."""
    import torch

    ids = torch.tensor([list(prompt)], device=next(model.parameters()).device)
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0, -1]
    return np.asarray(torch.softmax(logits.double(), dim=-1).cpu().numpy())


def first_token_p(tokens: Sequence[int], probabilities: Floats) -> float:
    """Return the p-value of a chi-square test that `tokens` were drawn from `probabilities` [V].

    Tokens expected less than LEAST_EXPECTED times share one bin.
    """
    from scipy.stats import chisquare

    expected = probabilities / probabilities.sum() * len(tokens)
    observed = np.bincount(np.asarray(tokens), minlength=len(probabilities)).astype(np.float64)
    common = expected >= LEAST_EXPECTED
    rest = expected[~common].sum()
    if rest < LEAST_EXPECTED:  # too thin for a bin of its own
        common[np.argmin(np.where(common, expected, np.inf))] = False
    bins = [np.append(values[common], values[~common].sum()) for values in (observed, expected)]
    return float(chisquare(bins[0], bins[1]).pvalue)


def token_rank_p(found: Sequence[Exact], seed: int) -> float:
    """Return the p-value of a Kolmogorov-Smirnov test that all tokens were drawn from their exact distributions.

    The mass above a token plus a random share of its own is uniform on [0, 1] and independent of all before it
    (Rosenblatt 1952; randomised for atoms), whatever the prefix. A truncated tail or another temperature bends it.
    """
    from scipy.stats import kstest

    above = np.concatenate([item.above for item in found])
    own = np.concatenate([item.probability for item in found])
    return float(kstest(above + np.random.default_rng(seed).random(len(own)) * own, "uniform").pvalue)


def logprobs(found: Sequence[Exact]) -> Floats:
    """Return every completion's log-probability in nats."""
    return np.array([np.log(item.probability).sum() for item in found])


def two_sample_p(
    first: tuple[Floats, Sequence[str]], second: tuple[Floats, Sequence[str]], resamples: int, seed: int
) -> float:
    """Return the p-value of a Kolmogorov-Smirnov test that two samples of (values, prompt ids) have one distribution.

    The values of one prompt are alike, so the statistic is compared to its permutations within prompts: exact for any
    number of values a prompt.
    """
    values = np.concatenate([first[0], second[0]])
    _, prompts = np.unique([*first[1], *second[1]], return_inverse=True)
    labels = np.concatenate([np.full(len(first[0]), 1 / len(first[0])), np.full(len(second[0]), -1 / len(second[0]))])
    order = np.argsort(values, kind="stable")
    prompts, labels = prompts[order], labels[order]
    generator = np.random.default_rng(seed)
    observed = np.abs(np.cumsum(labels)).max()
    by_prompt = labels[np.argsort(prompts, kind="stable")]
    as_far = 0
    for _ in range(resamples):
        permuted = np.empty_like(labels)
        permuted[np.lexsort((generator.random(len(labels)), prompts))] = by_prompt
        as_far += int(np.abs(np.cumsum(permuted)).max() >= observed - 1e-12)
    return (1 + as_far) / (1 + resamples)
