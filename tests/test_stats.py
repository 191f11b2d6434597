"""Statistics: closed forms, coverage by simulation, and properties that hold for any data."""

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscope import stats
from phonoscope.errors import TooFewSamples
from phonoscope.stats import (
    Aggregate,
    Comparison,
    Paired,
    estimate,
    holm,
    mean,
    paired,
    pairwise,
    rank_ranges,
    ratio_of_sums,
    spearman,
)
from phonoscope.types import Ratio


def singletons(n: int) -> list[str]:
    return [f"s{index}" for index in range(n)]


def half_width(found) -> float:
    return (found.high - found.low) / 2


# --- values -----------------------------------------------------------------------------------


def test_mean_and_pooled_ratio_differ() -> None:
    pairs = [Ratio(0, 7), Ratio(5, 2)]
    assert estimate(pairs, ["a", "b"]).value == 1.25
    assert estimate(pairs, ["a", "b"]).std == 1.25
    pooled = estimate(pairs, ["a", "b"], aggregate=ratio_of_sums)
    assert pooled.value == 5 / 9
    assert math.isnan(pooled.std)


def test_std_is_ddof_0_and_counts_are_passed_on() -> None:
    found = estimate([1.0, 2.0, 4.0], singletons(3), n_failed=2, n_unsupported=5)
    assert found.std == pytest.approx(np.std([1, 2, 4], ddof=0))
    assert (found.n, found.n_failed, found.n_unsupported) == (3, 2, 5)


@pytest.fixture(scope="session")
def speech_cases(parity):
    return parity("speech")["cases"]


def test_parity_mean_std_with_a_failure(speech_cases) -> None:
    (case,) = (c for c in speech_cases if c["metric"] == "aggregate")
    values = case["input"]["values"]
    found = estimate(values, singletons(len(values)), n_failed=case["input"]["failed"])
    assert found.value == pytest.approx(case["value"], abs=case["abs_tol"])
    assert found.std == pytest.approx(case["aux"]["std"], abs=case["abs_tol"])
    assert (found.n, found.n_failed) == (case["aux"]["n"], case["aux"]["n_failed"])


def test_parity_wer_pair(speech_cases) -> None:
    cases = [c for c in speech_cases if c.get("input", {}).get("kind") == "pairs"]
    expected = {c["metric"]: c for c in cases}
    assert len(expected) == len(cases) == 2
    # The edits of these two pairs are in the file too, as single texts.
    edits = {
        (c["input"]["reference"], c["input"]["generated"]): c["aux"]
        for c in speech_cases
        if c.get("input", {}).get("kind") == "texts" and c["mode"] == "evalse_tfs"
    }
    records = []
    for reference, generated in cases[0]["input"]["pairs"]:
        aux = edits[reference, generated]
        records.append(Ratio(aux["edits"], aux["ref_words"]))
    utterance, corpus = expected["wer_quartznet"], expected["wer_quartznet_corpus"]
    found = estimate(records, ["a", "b"])
    assert found.value == pytest.approx(utterance["value"], abs=1e-6)
    assert found.std == pytest.approx(utterance["aux"]["std_ddof0"], abs=1e-6)
    pooled = estimate(records, ["a", "b"], aggregate=ratio_of_sums)
    assert pooled.value == pytest.approx(corpus["value"], abs=1e-6)


# --- edges ------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregate", [mean, ratio_of_sums])
def test_nothing_measured_is_nan_never_zero(aggregate) -> None:
    found = estimate([], [], aggregate=aggregate, n_failed=3)
    assert all(math.isnan(x) for x in (found.value, found.low, found.high, found.std))
    assert (found.n, found.n_failed) == (0, 3)
    assert found.flags == ("no_samples",)
    assert math.isnan(aggregate.reduce([])[0])
    lone = paired([], [], [], aggregate=aggregate)
    assert math.isnan(lone.difference) and math.isnan(lone.p) and lone.n == 0


def test_one_group_has_no_interval() -> None:
    found = estimate([1.0, 2.0, 3.0], ["a", "a", "a"])
    assert found.value == 2.0
    assert math.isnan(found.low) and math.isnan(found.high)
    assert found.flags == ("one_group",)
    both = paired([1.0, 2.0], [2.0, 4.0], ["a", "a"])
    assert both.difference == -1.5 and math.isnan(both.low) and math.isnan(both.p)


def test_few_groups_are_flagged() -> None:
    assert estimate([1.0, 2.0], ["a", "b"]).flags == ("few_groups",)
    assert estimate(list(range(10)), singletons(10)).flags == ()


@pytest.mark.parametrize("value", [0.1, -3.3, 1e-300, Ratio(1, 3), np.float32(0.7)])
def test_identical_values_have_no_width(value) -> None:
    for aggregate in (mean, ratio_of_sums):
        found = estimate([value] * 37, singletons(37), aggregate=aggregate)
        exact = value.numerator / value.denominator if isinstance(value, Ratio) else float(value)
        assert found.low == found.value == found.high == exact


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, Ratio(math.nan, 1), Ratio(1, math.nan), Ratio(1, math.inf)],
)
@pytest.mark.parametrize("aggregate", [mean, ratio_of_sums])
def test_nonfinite_values_are_refused_by_index(value, aggregate) -> None:
    with pytest.raises(ValueError, match="value 1 is"):
        estimate([1.0, value], ["a", "b"], aggregate=aggregate)
    with pytest.raises(ValueError, match="value 1 is"):
        paired([1.0, 1.0], [1.0, value], ["a", "b"], aggregate=aggregate)


def test_denominators() -> None:
    with pytest.raises(ValueError, match="denominator of 0"):
        estimate([Ratio(1, 0)], ["a"])
    with pytest.raises(ValueError, match="denominator of -2"):
        estimate([Ratio(1, -2)], ["a"], aggregate=ratio_of_sums)
    found = estimate([Ratio(0, 0), Ratio(0, 0)], ["a", "b"], aggregate=ratio_of_sums)
    assert math.isnan(found.value) and math.isnan(found.low)
    assert "zero_denominator" in found.flags
    assert math.isnan(paired([Ratio(0, 0)] * 2, [1.0, 2.0], "ab", aggregate=ratio_of_sums).p)
    # A draw without the only group that has words is left out, and said.
    found = estimate([Ratio(1, 2), Ratio(1, 0)], ["a", "b"], aggregate=ratio_of_sums)
    assert found.value == 1.0 and "zero_denominator" in found.flags
    assert 0.5 <= found.low <= found.high


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="2 values but 1 groups"):
        estimate([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="2 values but 1 groups"):
        paired([1.0], [1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="draws is 0"):
        estimate([1.0], ["a"], draws=0)
    with pytest.raises(ValueError, match="vectors have no average"):
        estimate([(np.zeros(2),)], ["a"])


# --- corpus aggregates ------------------------------------------------------------------------


def _distance(values) -> tuple[float, tuple[str, ...]]:
    if len(values) < 2:
        raise TooFewSamples("give two")
    left, right = (np.stack(side).mean(axis=0) for side in zip(*values, strict=True))
    return float(np.abs(left - right).sum()), ("rank_deficient",)


distance = Aggregate("distance", False, _distance)


def test_corpus_aggregate_has_value_and_flags_but_no_interval() -> None:
    values = [(np.ones(3) * k, np.zeros(3)) for k in range(4)]
    found = estimate(values, singletons(4), aggregate=distance)
    assert found.value == 4.5 and found.flags == ("rank_deficient",) and found.n == 4
    assert math.isnan(found.low) and math.isnan(found.std)
    both = paired(values, values[::-1][:3] + values[:1], singletons(4), aggregate=distance)
    assert both.difference == 0.0 and math.isnan(both.p) and math.isnan(both.low)


def test_corpus_aggregate_that_gives_up_is_nan_and_says_why() -> None:
    found = estimate([(np.ones(3), np.ones(3))], ["a"], aggregate=distance)
    assert math.isnan(found.value) and found.flags == ("too_few_samples",) and found.n == 1


def test_corpus_aggregate_refuses_nan_vectors() -> None:
    with pytest.raises(ValueError, match="value 0 holds a NaN"):
        estimate([(np.array([math.nan]), np.ones(1))] * 2, ["a", "b"], aggregate=distance)


# --- closed forms -----------------------------------------------------------------------------


def test_bootstrap_error_of_the_mean_is_std_over_root_n() -> None:
    """Half-width = 1.96 std / sqrt(n), however many draws: an error divided by their root fails."""
    values = np.random.default_rng(1).normal(5.0, 2.0, size=400).tolist()
    for draws in (1000, 4000, 16000):
        found = estimate(values, singletons(400), draws=draws)
        expected = 1.959964 * found.std / math.sqrt(400)
        assert half_width(found) == pytest.approx(expected, rel=0.07)


def test_bundles_keep_the_error_of_many_groups() -> None:
    n = 3 * stats.BUNDLES + 17
    values = np.random.default_rng(2).exponential(size=n).tolist()
    found = estimate(values, singletons(n))
    assert half_width(found) == pytest.approx(1.959964 * found.std / math.sqrt(n), rel=0.07)


def test_correlated_samples_count_as_one() -> None:
    """Ten copies of each sample in its group are no more evidence than one."""
    values = np.random.default_rng(3).normal(size=50).tolist()
    once = estimate(values, singletons(50))
    tenfold = estimate(values * 10, singletons(50) * 10)
    assert tenfold.low == pytest.approx(once.low, rel=1e-9)
    assert tenfold.high == pytest.approx(once.high, rel=1e-9)
    as_if_free = estimate(values * 10, singletons(500))
    assert half_width(as_if_free) < half_width(once) / 2.5


def test_ratio_of_sums_agrees_with_the_delta_method() -> None:
    rng = np.random.default_rng(4)
    words = rng.integers(3, 20, size=600)
    edits = rng.binomial(words, 0.3)
    values = [Ratio(int(e), int(w)) for e, w in zip(edits, words, strict=True)]
    found = estimate(values, singletons(600), aggregate=ratio_of_sums)
    residual = edits - found.value * words
    error = residual.std() / math.sqrt(600) / words.mean()
    assert half_width(found) == pytest.approx(1.959964 * error, rel=0.07)


def test_weights_are_multinomial() -> None:
    """Rows sum to the number of groups; counts have mean 1, variance 1 - 1/G, covariance -1/G."""
    groups, draws = 8, 40_000
    weights = np.concatenate(list(stats._weights(groups, draws, 7)))
    assert weights.shape == (draws, groups)
    assert (weights.sum(axis=1) == groups).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(groups), abs=0.03)
    covariance = np.cov(weights.T, ddof=0)
    expected = np.eye(groups) - 1 / groups
    assert np.abs(covariance - expected).max() < 0.03


def test_blocks_do_not_change_the_draws(monkeypatch) -> None:
    whole = np.concatenate(list(stats._counts(30, 500, 3)))
    monkeypatch.setattr(stats, "_BLOCK", 97)
    assert np.array_equal(np.concatenate(list(stats._counts(30, 500, 3))), whole)
    monkeypatch.setattr(stats, "_CACHED", 10)
    assert np.array_equal(np.concatenate(list(stats._weights(30, 500, 3))), whole)


def test_more_draws_begin_with_the_same_draws() -> None:
    few, many = (np.concatenate(list(stats._counts(30, n, 3))) for n in (500, 900))
    assert np.array_equal(many[:500], few)


# --- simulation -------------------------------------------------------------------------------


def clustered(rng: np.random.Generator) -> tuple[list[float], list[str]]:
    """Return 30 to 60 groups of 1 to 8 samples around their own skewed centre; true mean 0."""
    sizes = rng.integers(1, 9, size=rng.integers(30, 61))
    centres = rng.exponential(size=len(sizes)) - 1
    values = np.repeat(centres, sizes) + 0.5 * rng.normal(size=sizes.sum())
    return values.tolist(), [f"g{k}" for k in np.repeat(np.arange(len(sizes)), sizes)]


def test_coverage_of_the_interval_on_correlated_data() -> None:
    rng = np.random.default_rng(5)
    covered = naive = 0
    for seed in range(400):
        values, groups = clustered(rng)
        found = estimate(values, groups, draws=1000, seed=seed)
        covered += found.low <= 0 <= found.high
        ignoring = estimate(values, singletons(len(values)), draws=1000, seed=seed)
        naive += ignoring.low <= 0 <= ignoring.high
    assert 0.91 <= covered / 400 <= 0.98
    assert naive / 400 < 0.80  # What happens without groups: the law can tell the two apart.


def test_level_and_power_of_the_paired_test() -> None:
    rng = np.random.default_rng(6)
    false, found, unpaired = 0, 0, 0
    for seed in range(300):
        values, groups = clustered(rng)
        noise = [0.3 * rng.normal(size=len(values)) for _ in range(2)]
        a = (np.array(values) + noise[0]).tolist()
        b = (np.array(values) + noise[1]).tolist()
        better = (np.array(b) + 0.15).tolist()
        false += paired(a, b, groups, draws=1000, seed=seed).p < 0.05
        found += paired(better, a, groups, draws=1000, seed=seed).p < 0.05
        left = estimate(better, groups, draws=1000, seed=seed)
        right = estimate(a, groups, draws=1000, seed=seed)
        unpaired += left.low > right.high
    assert 0.02 <= false / 300 <= 0.09
    assert found / 300 > 0.9
    assert unpaired < found / 4


# --- pairs ------------------------------------------------------------------------------------


def test_a_system_against_itself_differs_by_exactly_nothing() -> None:
    values, groups = clustered(np.random.default_rng(7))
    assert paired(values, values, groups) == Paired(0.0, 0.0, 0.0, 1.0, len(values))


def test_a_difference_made_by_rounding_alone_is_none() -> None:
    a = [0.1, 0.2, 0.3] * 20
    b = [0.3, 0.1, 0.2] * 20
    groups = [f"g{k // 3}" for k in range(60)]
    found = paired(a, b, groups)
    assert found.p == 1.0
    assert found.low == found.high == 0.0


def test_p_is_never_zero_and_the_interval_agrees() -> None:
    values, groups = clustered(np.random.default_rng(8))
    shifted = (np.array(values) + 1.0).tolist()
    found = paired(shifted, values, groups, draws=500)
    assert found.p == pytest.approx(2 / 501)
    assert found.low == pytest.approx(1.0) and found.high == pytest.approx(1.0)


def test_pairs_share_their_draws_with_estimates() -> None:
    """With b constant, the paired interval is a's own interval, moved."""
    values, groups = clustered(np.random.default_rng(9))
    alone = estimate(values, groups)
    against = paired(values, [2.0] * len(values), groups)
    assert against.low == pytest.approx(alone.low - 2.0, abs=1e-12)
    assert against.high == pytest.approx(alone.high - 2.0, abs=1e-12)


def test_pairwise_makes_enough_draws_for_holm() -> None:
    """Fifteen systems have 105 pairs: 2,000 draws could never reach 5 % after Holm."""
    groups = singletons(40)
    noise = np.random.default_rng(10).normal(size=(15, 40)) * 0.01
    systems = {f"m{k}": (noise[k] + k).tolist() for k in range(15)}
    found = pairwise(systems, groups, draws=100)
    assert len(found) == 105
    assert max(item.p_adjusted for item in found) < 0.05
    ranges = rank_ranges(list(systems), found, "higher")
    assert ranges == {f"m{k}": (15 - k, 15 - k) for k in range(15)}


def test_pairwise_equals_paired() -> None:
    values, groups = clustered(np.random.default_rng(11))
    systems = {
        name: (np.array(values) * f).tolist() for name, f in zip("abc", (1, 2, 3), strict=True)
    }
    for item in pairwise(systems, groups):
        assert item.paired == paired(systems[item.a], systems[item.b], groups)


# --- Holm, ranks, Spearman --------------------------------------------------------------------


def test_holm_known_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def test_holm_passes_nan_through_and_does_not_count_it() -> None:
    found = holm([math.nan, 0.01, math.nan, 0.04])
    assert math.isnan(found[0]) and math.isnan(found[2])
    assert found[1::2] == pytest.approx([0.02, 0.04])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm([0.5, 1.5])


def comparison(a: str, b: str, difference: float, p: float) -> Comparison:
    return Comparison(a, b, Paired(difference, math.nan, math.nan, p, 10), p)


def test_rank_ranges() -> None:
    pairs = [
        comparison("a", "b", 1.0, 0.001),
        comparison("a", "c", 0.5, 0.2),
        comparison("b", "c", -0.4, 0.04),
    ]
    assert rank_ranges("abc", pairs, "higher") == {"a": (1, 2), "b": (3, 3), "c": (1, 2)}
    assert rank_ranges("abc", pairs, "lower") == {"a": (2, 3), "b": (1, 1), "c": (2, 3)}


def test_rank_ranges_without_p_values_settle_nothing() -> None:
    pairs = [comparison("a", "b", 1.0, math.nan)]
    assert rank_ranges("ab", pairs, "higher") == {"a": (1, 2), "b": (1, 2)}
    assert rank_ranges("a", [], "lower") == {"a": (1, 1)}


def test_spearman_against_scipy_and_edges() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(12)
    for _ in range(20):
        x, y = rng.integers(0, 6, size=(2, 9)).tolist()
        assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert spearman([1, 2, 3], [10, 20, 25]) == 1.0
    assert spearman([1, 2, 3], [3, 2, 1]) == -1.0
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert math.isnan(spearman([1], [2]))
    with pytest.raises(ValueError, match="without NaN"):
        spearman([1, math.nan], [1, 2])
    with pytest.raises(ValueError, match="one length"):
        spearman([1, 2], [1])


# --- properties -------------------------------------------------------------------------------

numbers = st.floats(-1e6, 1e6, allow_nan=False)
ratios = st.builds(Ratio, st.integers(0, 50), st.integers(1, 50))
samples = st.lists(st.tuples(st.one_of(numbers, ratios), st.sampled_from("abcde")), min_size=1)


@settings(max_examples=60, deadline=None)
@given(samples, st.randoms(use_true_random=False), st.sampled_from([mean, ratio_of_sums]))
def test_order_changes_no_bit(rows, shuffler: random.Random, aggregate) -> None:
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    one, two = (
        estimate(*zip(*order, strict=True), aggregate=aggregate, draws=200)
        for order in (rows, shuffled)
    )
    assert repr(one) == repr(two)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(numbers, numbers, st.sampled_from("abcde")), min_size=1), st.randoms())
def test_order_changes_no_bit_of_a_pair(rows, shuffler: random.Random) -> None:
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    one, two = (paired(*zip(*order, strict=True), draws=200) for order in (rows, shuffled))
    assert repr(one) == repr(two)


@settings(max_examples=60, deadline=None)
@given(samples, st.sampled_from([mean, ratio_of_sums]))
def test_interval_is_ordered_and_within_the_data(rows, aggregate) -> None:
    values, groups = zip(*rows, strict=True)
    found = estimate(values, groups, aggregate=aggregate, draws=200)
    each = [v.numerator / v.denominator if isinstance(v, Ratio) else v for v in values]
    assert min(each) <= found.value <= max(each)
    if len(set(groups)) > 1:
        assert min(each) <= found.low <= found.high <= max(each)
    else:
        assert math.isnan(found.low)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(numbers, numbers, st.sampled_from("abcde")), min_size=1))
def test_a_pair_turned_round_is_its_negative(rows) -> None:
    a, b, groups = zip(*rows, strict=True)
    there, back = paired(a, b, groups, draws=200), paired(b, a, groups, draws=200)
    assert there.difference == -back.difference
    assert there.p == back.p or math.isnan(there.p)
    if not math.isnan(there.low):
        assert there.low == pytest.approx(-back.high, rel=1e-9, abs=1e-9)
        assert 0 < there.p <= 1


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_a_p_and_keeps_their_order(p) -> None:
    adjusted = holm(p)
    assert all(raw <= new <= 1 for raw, new in zip(p, adjusted, strict=True))
    order = sorted(range(len(p)), key=lambda k: p[k])
    assert all(adjusted[i] <= adjusted[j] for i, j in itertools.pairwise(order))
