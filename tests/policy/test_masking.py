"""Statistics over real tokens, whatever stands on the padding."""

import numpy as np
import pytest
import torch

from pipeline.policy.masking import completion_mask, masked_mean, masked_whiten

LENGTHS = torch.tensor([3, 1, 5])
FILLERS = [0.0, 1e9, float("inf"), float("nan")]


def values(filler=0.0):
    made = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 2
    return torch.where(completion_mask(LENGTHS, 5), made, torch.tensor(filler, dtype=torch.float64))


def test_the_mask_is_true_on_the_first_tokens():
    assert completion_mask(LENGTHS, 5).int().tolist() == [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
    assert completion_mask(torch.tensor([0, 2]), 2).tolist() == [[False, False], [True, True]]


@pytest.mark.parametrize("filler", FILLERS)
def test_the_mean_is_that_of_the_real_tokens(filler):
    real = np.concatenate([values()[row, :length].numpy() for row, length in enumerate(LENGTHS.tolist())])
    assert masked_mean(values(filler), completion_mask(LENGTHS, 5)).item() == pytest.approx(real.mean())


def test_every_real_token_weighs_the_same_not_every_row():
    mask = completion_mask(torch.tensor([1, 3]), 3)
    assert masked_mean(torch.tensor([[4.0, 0, 0], [0.0, 0, 0]]), mask) == 1


def test_the_mean_of_nothing_is_an_error_and_not_0():
    with pytest.raises(ValueError, match="at least one real token"):
        masked_mean(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool))


@pytest.mark.parametrize("filler", FILLERS)
def test_whitened_real_tokens_have_mean_0_and_variance_1_and_padding_is_0(filler):
    mask = completion_mask(LENGTHS, 5)
    whitened = masked_whiten(values(filler), mask)
    assert whitened[mask].mean().item() == pytest.approx(0, abs=1e-9)
    assert whitened[mask].var(correction=0).item() == pytest.approx(1)
    assert not whitened[~mask].any()
    order = values()[mask].argsort()
    assert torch.equal(whitened[mask].argsort(), order), "whitening keeps the order"


def test_whitening_may_keep_the_mean():
    mask = completion_mask(LENGTHS, 5)
    whitened = masked_whiten(values(float("nan")), mask, shift_mean=False)
    assert whitened[mask].mean().item() == pytest.approx(values()[mask].mean().item())
    assert whitened[mask].var(correction=0).item() == pytest.approx(1)
    assert not whitened[~mask].any()


def test_equal_values_whiten_to_0():
    mask = completion_mask(LENGTHS, 5)
    assert masked_whiten(torch.full((3, 5), 7.0), mask).abs().max() == 0


def test_no_gradient_flows_to_padding():
    mask = completion_mask(LENGTHS, 5)
    given = values(1e6).requires_grad_()
    masked_mean(given**2, mask).backward()
    assert not given.grad[~mask].any() and given.grad[mask].all()
