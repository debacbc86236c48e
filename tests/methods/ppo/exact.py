"""Float64: of the tiny model, read with nothing of ours, and of our own policy."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from pipeline.policy.types import Completion
from tests.policy import tiny_llama


class Seen(NamedTuple):
    """What a policy thinks of one completion: [T] each, in nats for the first two."""

    logprobs: np.ndarray
    entropy: np.ndarray
    values: np.ndarray


class Snapshot:
    """A policy as it was at one moment, in float64: the Hugging Face model and the weights of the value head."""

    def __init__(self, policy: Any) -> None:
        self.model = copy.deepcopy(policy.model)
        in_float64(self.model)
        self.value_head = [parameter.detach().double().clone() for parameter in policy.value_head.parameters()]

    def read(self, completions: Sequence[Completion], base: bool = False) -> list[Seen]:
        """Read completions one by one, with nothing of ours; `base` switches the adapter off."""
        if base:
            with self.model.disable_adapter():
                return [self._read(completion) for completion in completions]
        return [self._read(completion) for completion in completions]

    @contextmanager
    def moved(self, parameter: str, index: tuple[int, ...], step: float) -> Iterator[None]:
        """Move one number of one parameter (a name of the model, or `weight` or `bias` of the value head)."""
        tensor = self.parameter(parameter)
        before = tensor[index].item()
        tensor.data[index] = before + step
        try:
            yield
        finally:
            tensor.data[index] = before

    def parameter(self, name: str) -> Tensor:
        """Return a parameter of the model, or `weight` [1, H] or `bias` [1] of the value head."""
        own = dict(zip(("weight", "bias"), self.value_head, strict=True))
        return own[name] if name in own else self.model.get_parameter(name)

    def _read(self, completion: Completion) -> Seen:
        logits, hidden = (found.numpy() for found in tiny_llama.plain(self.model, completion))
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        chosen = probabilities[np.arange(len(logits)), list(completion.token_ids)]
        weight, bias = (item.numpy() for item in self.value_head)
        entropy = -(probabilities * np.log(probabilities)).sum(axis=1)
        return Seen(np.log(chosen), entropy, hidden @ weight[0] + bias[0])


def in_float64(model: nn.Module) -> None:
    """Turn a Llama into float64 throughout: its norms go through float32 whatever the weights are."""
    model.double()
    for module in model.modules():
        if isinstance(module, LlamaRMSNorm):
            module.forward = _norm.__get__(module)


def _norm(self: LlamaRMSNorm, hidden: Tensor) -> Tensor:
    return self.weight * hidden / (hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon).sqrt()


@contextmanager
def float64_everywhere() -> Iterator[None]:
    """Let what our code makes or asks for in float32 be float64 inside the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)


def policy_in_float64(policy: Any) -> Any:
    """Turn our policy into float64, in place; it works so inside `float64_everywhere` only."""
    in_float64(policy.model)
    policy.value_head.double()
    return policy
