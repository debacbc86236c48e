"""Drawing tokens: noise keyed by (seed, prompt id, sample index, position), and exact nucleus sampling."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.io.errors import NotFiniteError
from pipeline.policy.types import Prompt, Trace

# Almost every nucleus lies within this many tokens; the rest is found with a full sort.
_NUCLEUS_GUESS = 512
_BLOCK = 256


def keyed_uniforms(seed: int, prompt_id: str, sample: int, length: int) -> Tensor:
    """Return `length` numbers in [0, 1), float64, that depend on nothing but the arguments.

    Position t always holds the t-th draw of a Philox stream (Salmon et al. 2011) whose key is a hash of the other
    three, so that batch size, order, early leaving and sharding cannot change a completion.
    """
    digest = hashlib.sha256(f"{seed}/{sample}/{prompt_id}".encode()).digest()
    key = np.frombuffer(digest[:16], dtype=np.uint64)
    return torch.from_numpy(np.random.Generator(np.random.Philox(key=key)).random(length))


def derived_seed(*parts: int | str) -> int:
    """Return a seed of 31 bits that depends on all parts: rollouts, say, differ between steps and between seeds."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4]) >> 1


class Drawn(NamedTuple):
    """The tokens drawn [B], their log-probabilities [B] and the entropies [B] they were drawn at, in nats."""

    tokens: Tensor
    logprobs: Tensor
    entropy: Tensor


def draw(logits: Tensor, uniforms: Tensor, temperature: float, top_p: float) -> Drawn:
    """Draw one token a row by inverting the distribution function at `uniforms`.

    logits: [B, V]. uniforms: [B] in [0, 1). With top_p < 1 only the smallest set of most probable tokens whose mass
    reaches top_p can be drawn (Holtzman et al. 2020). Log-probabilities and entropies are those at temperature 1
    without truncation. Raises NotFiniteError when a logit is not finite.
    """
    logits = logits.float()
    natural = torch.softmax(logits, dim=-1)
    if not natural[:, 0].isfinite().all():  # one that is not makes its whole row so
        raise NotFiniteError("the policy's logits are not finite")
    probabilities = natural if temperature == 1 else torch.softmax(logits / temperature, dim=-1)
    tokens = _invert(probabilities, uniforms) if top_p >= 1 else _nucleus(probabilities, uniforms, top_p)
    normalizer = logits.amax(dim=-1) - natural.amax(dim=-1).log()  # `logsumexp`, without another exp of everything
    expected = (natural * logits).sum(dim=-1)  # several times as fast as `vecdot` on a CPU
    return Drawn(tokens, logits.gather(1, tokens[:, None]).squeeze(1) - normalizer, normalizer - expected)


def _nucleus(probabilities: Tensor, uniforms: Tensor, top_p: float) -> Tensor:
    largest, tokens = probabilities.topk(min(_NUCLEUS_GUESS, probabilities.shape[-1]), dim=-1)
    chosen = _draw_from_nucleus(largest, tokens, uniforms, top_p)
    wide = largest.sum(dim=-1) < top_p
    if wide.any():
        largest, tokens = probabilities[wide].sort(dim=-1, descending=True)
        chosen[wide] = _draw_from_nucleus(largest, tokens, uniforms[wide], top_p)
    return chosen


def _draw_from_nucleus(largest: Tensor, tokens: Tensor, uniforms: Tensor, top_p: float) -> Tensor:
    before = largest.double().cumsum(dim=-1) - largest.double()
    nucleus = torch.where(before < top_p, largest, torch.zeros_like(largest))
    return tokens.gather(1, _invert(nucleus, uniforms)[:, None]).squeeze(1)


def _invert(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Return for each row the first index whose cumulative weight exceeds uniform x total weight.

    Found in two strides, first the block of _BLOCK weights, then the place in it: cumulating a whole vocabulary in
    float64 took longer than a layer of the model. Blocks are summed in the precision that softmax left.
    """
    blocks = torch.nn.functional.pad(weights, (0, -weights.shape[-1] % _BLOCK)).unflatten(-1, (-1, _BLOCK))
    cumulative = blocks.sum(dim=-1).double().cumsum(dim=-1)
    total = cumulative[:, -1:]
    target = uniforms.to(total)[:, None] * total
    block = _first_above(cumulative, target)
    rows = torch.arange(len(weights), device=weights.device)
    before = torch.where(block > 0, cumulative[rows, block - 1], 0.0)
    inside = blocks[rows, block].double().cumsum(dim=-1)
    return block * _BLOCK + _first_above(inside, target - before[:, None])


def _first_above(cumulative: Tensor, target: Tensor) -> Tensor:
    """Return [B]: the first place where `cumulative` [B, N] exceeds `target` [B, 1], always one of positive weight.

    Rounding may carry the target up to the total itself, past the last token that can be drawn.
    """
    total = cumulative[:, -1:]
    below = torch.minimum(target, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, below, right=True).squeeze(1)


def token_statistics(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-probability of `tokens` [N] and the entropy under `logits` [N, V], both [N] float32, in nats.

    The entropy is reported, never optimised, so it carries no gradient.
    """
    everything = torch.log_softmax(logits.float(), dim=-1)
    with torch.no_grad():
        entropy = -(everything.exp() * everything).sum(dim=-1)
    return everything.gather(1, tokens[:, None]).squeeze(1), entropy


class Samples:
    """The tokens drawn so far for every (prompt, sample): B = prompts x samples rows of at most `width` tokens.

    Whoever decodes may leave rows out once they are finished; what is drawn for a finished row is not recorded.
    """

    def __init__(
        self, prompts: Sequence[Prompt], samples: int, seed: int, width: int, stops: Sequence[int], device: torch.device
    ) -> None:
        self.keys = [(prompt, sample) for prompt in prompts for sample in range(samples)]
        self.width = width
        uniforms = [keyed_uniforms(seed, prompt.id, sample, width) for prompt, sample in self.keys]
        self.uniforms = torch.stack(uniforms).to(device)
        self.tokens = torch.zeros(len(self.keys), width, dtype=torch.long, device=device)
        self.finished = torch.zeros(len(self.keys), dtype=torch.bool, device=device)
        self._lengths = torch.zeros(len(self.keys), dtype=torch.long, device=device)
        self._seen = torch.zeros(len(self.keys), width, len(Trace._fields), device=device)
        self._stops = torch.tensor(list(stops), device=device)

    def record(self, rows: Tensor, position: int, drawn: Drawn, values: Tensor) -> None:
        """Note what was drawn for `rows` [B] at one position, the values [B] before it, and which rows it finishes."""
        live = ~self.finished[rows]
        rows, tokens = rows[live], drawn.tokens[live]
        self.tokens[rows, position] = tokens
        self._seen[rows, position] = torch.stack([drawn.logprobs, drawn.entropy, values], dim=1)[live]
        self._lengths[rows] += 1
        self.finished[rows] = torch.isin(tokens, self._stops)

    def rows(self) -> Iterator[tuple[Prompt, int, tuple[int, ...], bool, Trace]]:
        """Yield prompt, sample index, token ids, whether it ended by itself, and the trace of every row."""
        lengths, finished, tokens = self._lengths.tolist(), self.finished.tolist(), self.tokens.tolist()
        seen = self._seen.cpu()
        for row, (prompt, sample) in enumerate(self.keys):
            trace = Trace(*(tuple(column) for column in seen[row, : lengths[row]].T.tolist()))
            yield prompt, sample, tuple(tokens[row][: lengths[row]]), finished[row], trace
