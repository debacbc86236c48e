"""Truths about statistics over real tokens, for any lengths, any numbers, and anything at all on the padding."""

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.policy.masking import completion_mask, masked_mean, masked_whiten

QUICK = settings(deadline=None, max_examples=60)

ANYTHING = st.sampled_from([0.0, -1.0, 1e30, float("inf"), float("-inf"), float("nan")])
NUMBERS = st.floats(-100, 100)


@st.composite
def padded(draw: st.DrawFn, width: int = 6) -> tuple[Tensor, Tensor]:
    """Return values [B, T] and their mask; at least one token is real."""
    lengths = draw(st.lists(st.integers(0, width), min_size=1, max_size=4).filter(any))
    mask = completion_mask(torch.tensor(lengths), width)
    numbers = draw(st.lists(NUMBERS, min_size=mask.numel(), max_size=mask.numel()))
    return torch.tensor(numbers, dtype=torch.float64).reshape(mask.shape), mask


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@QUICK
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5), width=st.integers(1, 9))
def test_a_mask_holds_as_many_tokens_as_are_real_and_all_of_them_come_first(lengths, width):
    mask = completion_mask(torch.tensor(lengths), width)
    assert mask.shape == (len(lengths), width) and mask.dtype == torch.bool
    assert mask.sum(dim=1).tolist() == [min(length, width) for length in lengths]
    assert not (mask[:, 1:] & ~mask[:, :-1]).any(), "no real token follows padding"


@QUICK
@given(case=padded(), filler=ANYTHING)
def test_whatever_stands_on_the_padding_changes_no_statistic(case, filler):
    values, mask = case
    dirty = torch.where(mask, values, torch.full_like(values, filler))
    assert torch.equal(masked_mean(dirty, mask), masked_mean(torch.where(mask, values, 0.0), mask))
    assert torch.equal(masked_whiten(dirty, mask), masked_whiten(torch.where(mask, values, 0.0), mask))


@QUICK
@given(case=padded())
def test_the_mean_is_that_of_the_real_tokens_gathered(case):
    values, mask = case
    assert np.isclose(masked_mean(values, mask), np.mean(values[mask].tolist()), rtol=1e-12, atol=1e-12)
    assert values[mask].min() - 1e-9 <= masked_mean(values, mask) <= values[mask].max() + 1e-9


@QUICK
@given(case=padded(), columns=st.integers(1, 4), filler=ANYTHING)
def test_wider_padding_and_another_order_of_rows_change_no_statistic(case, columns, filler):
    values, mask = case
    wider = torch.cat([values, torch.full((len(values), columns), filler, dtype=values.dtype)], dim=1)
    wider_mask = torch.nn.functional.pad(mask, (0, columns))
    close(masked_mean(wider.flip(0), wider_mask.flip(0)), masked_mean(values, mask))
    close(masked_whiten(wider.flip(0), wider_mask.flip(0)).flip(0)[:, : mask.shape[1]], masked_whiten(values, mask))


@QUICK
@given(case=padded(), factor=NUMBERS, shift=NUMBERS)
def test_the_mean_follows_a_change_of_scale_and_origin(case, factor, shift):
    values, mask = case
    torch.testing.assert_close(
        masked_mean(factor * values + shift, mask), factor * masked_mean(values, mask) + shift, rtol=1e-9, atol=1e-7
    )


@QUICK
@given(case=padded())
def test_whitened_real_tokens_have_mean_0_and_variance_1_and_padding_is_0(case):
    values, mask = case
    assume(values[mask].std(correction=0) > 0.1)
    whitened = masked_whiten(values, mask)
    assert abs(whitened[mask].mean()) < 1e-9
    assert abs(whitened[mask].var(correction=0) - 1) < 1e-5  # 1e-8 stands under the root
    assert not whitened[~mask].any()


@QUICK
@given(case=padded(), factor=st.floats(0.5, 50), shift=NUMBERS)
def test_whitening_forgets_scale_and_origin_and_keeps_the_order(case, factor, shift):
    values, mask = case
    assume(values[mask].std(correction=0) > 0.1)
    whitened = masked_whiten(values, mask)
    torch.testing.assert_close(masked_whiten(factor * values + shift, mask), whitened, rtol=1e-4, atol=1e-5)
    ascending = whitened[mask][values[mask].argsort()]
    assert (ascending[1:] >= ascending[:-1]).all()


@QUICK
@given(case=padded())
def test_whitening_that_keeps_the_mean_is_whitening_moved_by_it(case):
    values, mask = case
    kept = masked_whiten(values, mask, shift_mean=False)
    close(kept[mask], masked_whiten(values, mask)[mask] + masked_mean(values, mask))
    assert not kept[~mask].any()
