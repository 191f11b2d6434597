"""Human ratings: files and their problems, means over raters and samples, votes, correlations."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from phonoscope import cli, listening, media, opinions, plugins, ratings, stats
from phonoscope.errors import RatingsError, UserError
from phonoscope.opinions import Measured, correlations, preferences, screened
from phonoscope.ratings import Choice, Rating, read_choices, read_ratings
from phonoscope.types import Audio, Ratio

HEAD = "rater,sample,system,score\n"
AB = "rater,sample,A,B,choice\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "ratings.csv"
    path.write_text(text, encoding="utf-8")
    return path


def rating(rater: str, sample: str, system: str, score: float, group: str = "") -> Rating:
    return Rating(rater, sample, system, score, group or sample)


def table_of(scores: np.ndarray, system: str = "A") -> list[Rating]:
    """Rate sample j by rater i with scores[i, j]."""
    return [
        rating(f"r{i:03}", f"s{j:03}", system, float(score))
        for (i, j), score in np.ndenumerate(scores)
    ]


# Files


def test_reads_the_columns_by_name_and_keeps_the_line(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeff" + HEAD + "r1,s1,A,4\n\nr1,s1,B, 3.5 \n")
    assert read_ratings(path, "mos") == (
        Rating("r1", "s1", "A", 4.0, "s1", 2),
        Rating("r1", "s1", "B", 3.5, "s1", 4),
    )


@pytest.mark.parametrize(
    "head",
    [
        "Listener,Item,Model,Rating,comment,Speaker",
        "session_uuid,trial_id,rating_stimulus,rating_score,rating_comment,group",
        "Subject,UTTERANCE,method,Opinion,x,speaker",
    ],
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_other_names_and_delimiters_are_known(tmp_path: Path, head: str, delimiter: str) -> None:
    text = f"{head}\nr1,s1,A,4,nice,g1\n".replace(",", delimiter)
    assert read_ratings(write(tmp_path, text), "mos") == (Rating("r1", "s1", "A", 4.0, "g1", 2),)


def test_columns_may_be_named_and_lines_chosen(tmp_path: Path) -> None:
    text = "who,sample,system,stars,question\nr1,s1,A,4,quality\nr1,s1,A,2,effort\n"
    path, names = write(tmp_path, text), {"rater": "who", "score": "stars"}
    (found,) = read_ratings(path, "mos", columns=names, where={"question": "effort"})
    assert (found.rater, found.score, found.line) == ("r1", 2.0, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "r1,s1,A,5.5\n", "line 2: out_of_range: 5.5 is not in 1 to 5 (scale mos)"),
        (HEAD + "r1,s1,A,0\n", "line 2: out_of_range"),
        (HEAD + "r1,s1,A,nan\n", "line 2: out_of_range: nan"),
        (HEAD + 'r1,s1,A,"4,5"\n', "line 2: not_a_number: '4,5'; write numbers as 4.5"),
        (HEAD + "r1,s1,A,4\nr2,s1,A,\n", "line 3: missing: column 'score' is empty"),
        (HEAD + "r1,s1,A,4\n ,s1,A,4\n", "line 3: missing: column 'rater' is empty"),
        (HEAD + "r1,s1,A,4\nr1,s1,B,4\nr1,s1,A,3\n", "line 4: duplicate: r1, s1, A stands in line"),
        (HEAD + "r1,s1,A\n", "line 2: columns: has 3 cells for 4 columns"),
        (HEAD + "r1,s1,A,4,5\n", "line 2: columns: has 5 cells for 4 columns"),
        (HEAD.replace("system", "system,group") + "a,s,A,g,4\nb,s,A,h,4\n", "line 3: two_groups"),
        (HEAD, "holds no lines"),
        ("", "is empty"),
        (" \n", "is empty"),
        ("rater,sample,sytem,score\nr,s,A,4\n", "no column for 'system'; the file has rater, samp"),
        ("rater,sample,system,score,rater\n", "stands there twice"),
        ("listener,subject,sample,system,score\n", "listener and subject could both be the rater"),
        (HEAD + 'r1,"s1"x,A,4\n', "line 2: not valid CSV"),
    ],
)
def test_problems_are_named_with_their_line(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(RatingsError) as caught:
        read_ratings(path, "mos")
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_all_problems_are_told_in_the_order_of_lines_up_to_ten(tmp_path: Path) -> None:
    lines = "".join(f"r{i},s,A,{9 if i % 2 else ''}\n" for i in range(14))
    with pytest.raises(RatingsError) as caught:
        read_ratings(write(tmp_path, HEAD + lines), "mos")
    first, *told, last = str(caught.value).splitlines()
    assert first.endswith("14 problems:")
    assert [line.split(":")[1].strip() for line in told] == ["missing", "out_of_range"] * 5
    assert [int(line.split(":")[0].split()[1]) for line in told] == list(range(2, 12))
    assert last.strip() == "and 4 more"


@pytest.mark.parametrize(
    ("scale", "good", "bad"), [("mushra", (0, 100), 101), ("ten", (1, 10), 0.5), ("mos", (1, 5), 6)]
)
def test_a_scale_has_its_ends(tmp_path: Path, scale: str, good: tuple, bad: float) -> None:
    lines = "".join(f"r1,s{i},A,{score}\n" for i, score in enumerate(good))
    assert len(read_ratings(write(tmp_path, HEAD + lines), scale)) == 2
    with pytest.raises(RatingsError, match=f"scale {scale}"):
        read_ratings(write(tmp_path, HEAD + f"r1,s1,A,{bad}\n"), scale)


def test_a_mushra_trial_has_all_systems(tmp_path: Path) -> None:
    text = HEAD + "r1,s1,A,50\nr1,s1,B,60\nr2,s1,A,50\nr1,s2,A,1\nr1,s2,B,2\n"
    path = write(tmp_path, text)
    with pytest.raises(RatingsError, match="line 4: incomplete_trial: r2 has no score of s1 for B"):
        read_ratings(path, "mushra")
    assert len(read_ratings(path, "mushra", partial=True)) == 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": {"rater": "whom"}}, "did you mean 'who'"),
        ({"columns": {"ratter": "who"}}, "did you mean 'rater'"),
        ({"columns": {"rater": "who"}, "where": {"quest": "x"}}, "did you mean 'question'"),
        ({"columns": {"rater": "who"}, "where": {"question": "x"}}, "there are quality"),
    ],
)
def test_wrong_names_get_an_answer(tmp_path: Path, options: dict, words: str) -> None:
    path = write(tmp_path, "who,sample,system,score,question\nr1,s1,A,4,quality\n")
    with pytest.raises(RatingsError) as caught:
        read_ratings(path, "mos", **options)
    assert words in str(caught.value)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.csv", tmp_path / "b.csv"):
        with pytest.raises(RatingsError, match=r"cannot be read: No such|save it as CSV UTF-8"):
            read_ratings(path, "mos")
    with pytest.raises(RatingsError, match="scales are mushra, ten, mos, ab"):
        read_ratings(write(tmp_path, HEAD), "stars")


def test_choices_are_letters_names_or_ties_in_any_case(tmp_path: Path) -> None:
    texts = ("A", "b", "LipVoicer", "noisy", "TIE", "=", "No preference")
    lines = "".join(f"r{i},s1,LipVoicer,Noisy,{text}\n" for i, text in enumerate(texts))
    found = read_choices(write(tmp_path, AB + lines))
    assert [item.chosen for item in found] == [
        *("LipVoicer", "Noisy", "LipVoicer", "Noisy", "", "", ""),
    ]


def test_a_name_of_a_system_wins_over_a_letter(tmp_path: Path) -> None:
    (found,) = read_choices(write(tmp_path, AB + "r1,s1,B,A,A\n"))
    assert found.chosen == "A"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("r1,s1,X,Y,Z\n", "line 2: unknown_choice: 'Z' is not A, B, X, Y or tie"),
        ("r1,s1,X,X,A\n", "line 2: same_system: A and B are both 'X'"),
        ("r1,s1,X,Y,\n", "line 2: missing: column 'choice' is empty"),
        ("r1,s1,X,Y,A\nr1,s1,Y,X,A\n", "line 3: duplicate"),
    ],
)
def test_problems_of_choices(tmp_path: Path, lines: str, words: str) -> None:
    with pytest.raises(RatingsError) as caught:
        read_choices(write(tmp_path, AB + lines))
    assert words in str(caught.value)


# Means over raters and samples


def only(scores: np.ndarray, **options: int) -> stats.Estimate:
    found = table_of(scores)
    return stats.crossed(
        {"A": [r.score for r in found]},
        {"A": [r.rater for r in found]},
        {"A": [r.sample for r in found]},
        **options,
    ).estimates["A"]


def test_mean_and_std_by_hand() -> None:
    found = only(np.array([[1.0, 2.0], [3.0, 6.0]]))
    assert found.value == 3.0
    assert found.std == pytest.approx(math.sqrt(3.5))
    assert found.n == 4
    assert found.flags == ("few_groups",)


@pytest.mark.parametrize("shape", [(12, 20), (30, 11)])
def test_the_spread_of_the_draws_is_the_pigeonhole_variance(shape: tuple[int, int]) -> None:
    """Closed form: both weights are multinomial, so E[w w'] = I + (1 - 1/n) J, and they are free.

    The 95 % interval of 20,000 draws of a nearly normal mean is 2 x 1.96 of that error wide.
    """
    rng = np.random.default_rng(2)
    x = rng.normal(size=(shape[0], 1)) + rng.normal(size=(1, shape[1])) + rng.normal(size=shape)
    left, right = (np.eye(n) + (1 - 1 / n) * np.ones((n, n)) for n in shape)
    variance = (((left @ x @ right) * x).sum() - x.sum() ** 2) / x.size**2
    found = only(x, draws=20_000)
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(math.sqrt(variance), rel=0.03)
    assert found.flags == ()


def test_raters_who_differ_make_the_interval_wide() -> None:
    """30 samples are no 30 opinions of the level: what counts is that there are 12 raters."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 1)) + 0.01 * rng.normal(size=(12, 30))
    found = only(x)
    one_way = stats.estimate(x.mean(axis=1).tolist(), [str(i) for i in range(12)])
    assert found.high - found.low == pytest.approx(one_way.high - one_way.low, rel=0.08)
    naive = stats.estimate(x.ravel().tolist(), [str(i) for i in range(x.size)])
    assert found.high - found.low > 4 * (naive.high - naive.low)


def test_the_interval_covers_the_true_mean() -> None:
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(300):
        x = rng.normal(size=(12, 1)) + rng.normal(size=(1, 12)) + rng.normal(size=(12, 12))
        found = only(x, draws=300)
        hits += found.low <= 0 <= found.high
    assert 0.90 <= hits / 300 <= 0.99


@given(
    st.lists(st.lists(st.integers(0, 100), min_size=4, max_size=4), min_size=2, max_size=7),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_the_order_of_ratings_changes_no_bit_and_the_interval_holds_the_mean(
    scores: list[list[int]], chance: random.Random
) -> None:
    found = table_of(np.array(scores, dtype=float)) + table_of(100.0 - np.array(scores), "B")
    shuffled = found[:]
    chance.shuffle(shuffled)
    # Systems stand in the order of the file, so the shuffled one keeps the first in front.
    shuffled.sort(key=lambda item: item.system)
    first, second = opinions.opinions(found, "mushra"), opinions.opinions(shuffled, "mushra")
    assert first.comparisons == second.comparisons
    for one, other in zip(first.systems, second.systems, strict=True):
        assert one.estimate == other.estimate
        e, flat = one.estimate, np.array(one.scores)
        assert flat.min() <= e.low <= e.value <= e.high <= flat.max()
        assert e.value == pytest.approx(flat.mean())


def test_names_of_raters_do_not_matter_beyond_their_order() -> None:
    x = np.random.default_rng(1).normal(size=(5, 6))
    found = table_of(x)
    renamed = [rating("x" + r.rater, "y" + r.sample, r.system, r.score) for r in found]
    assert (
        opinions.opinions(found, "mos").systems[0].estimate
        == opinions.opinions(renamed, "mos").systems[0].estimate
    )


def test_one_rater_or_one_sample_has_no_interval() -> None:
    for shape in ((1, 9), (9, 1)):
        found = only(np.arange(9.0).reshape(shape))
        assert math.isnan(found.low)
        assert found.flags == ("one_group",)


def test_samples_of_one_group_are_drawn_together() -> None:
    """Twenty samples of two speakers are two draws: far less sure than twenty."""
    rng = np.random.default_rng(3)
    x = np.repeat([[0.0, 4.0]], 10, axis=1) + 0.1 * rng.normal(size=(12, 20))
    apart = table_of(x)
    together = [
        rating(r.rater, r.sample, "A", r.score, f"g{int(r.sample[1:]) // 10}") for r in apart
    ]
    wide, narrow = (
        opinions.opinions(found, "mos").systems[0].estimate for found in (together, apart)
    )
    assert wide.value == narrow.value
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_differences_share_the_draws_and_ranks_follow() -> None:
    """A rater's own level is in both systems, so it is no part of their difference."""
    rng = np.random.default_rng(5)
    level = 10 * rng.normal(size=(12, 1)) + 0.5 * rng.normal(size=(12, 15))
    found = opinions.opinions(
        [*table_of(level + 2.0, "A"), *table_of(level, "B"), *table_of(level, "C")], "mushra"
    )
    pairs = {(item.a, item.b): item for item in found.comparisons}
    best = pairs["A", "B"].paired
    assert best.difference == pytest.approx(2.0)
    assert (best.low, best.high) == (pytest.approx(2.0), pytest.approx(2.0))
    assert pairs["A", "B"].p_adjusted < 0.05
    same = pairs["B", "C"]
    assert (same.paired.difference, same.p_adjusted, same.paired.n) == (0.0, 1.0, 180)
    assert [item.ranks for item in found.systems] == [(1, 1), (2, 3), (2, 3)]
    assert found.notes == ()


def test_systems_rated_on_other_samples_are_told() -> None:
    found = opinions.opinions(
        [*table_of(np.ones((3, 3)), "A"), *table_of(np.ones((3, 2)), "B")], "mos"
    )
    assert found.notes == (
        "Of 9 pairs of rater and sample, 6 have all systems: "
        "means of different systems are over different pairs.",
    )
    assert found.comparisons[0].paired.n == 6


def test_what_is_no_number_is_refused() -> None:
    for values in ([math.nan, 1.0], []):
        with pytest.raises(ValueError, match="finite numbers"):
            stats.crossed({"A": values}, {"A": ["r"] * len(values)}, {"A": ["s"] * len(values)})
    with pytest.raises(ValueError, match="2 values but 1 groups"):
        stats.crossed({"A": [1.0, 2.0]}, {"A": ["r"]}, {"A": ["s", "t"]})


def test_raters_who_do_not_hear_the_reference_are_left_out_and_named() -> None:
    scores = {"good": [100, 95, 90, 100, 91, 99, 80], "bad": [100, 95, 90, 100, 91, 89, 80]}
    found = [
        rating(rater, f"s{i}", "Ref", score)
        for rater, each in scores.items()
        for i, score in enumerate(each)
    ]
    kept, note = screened(found, "Ref")
    assert {item.rater for item in kept} == {"good"}
    assert note.endswith("more than 15 % of samples: bad.")
    assert screened(kept, "Ref")[1].endswith("nobody.")
    with pytest.raises(RatingsError, match="did you mean 'Ref'"):
        screened(found, "Reff")
    with pytest.raises(RatingsError, match="no rater is left"):
        screened([item for item in found if item.rater == "bad"], "Ref")


# Votes


def votes(for_a: int, for_b: int, ties: int = 0, a: str = "A", b: str = "B") -> list[Choice]:
    chosen = [a] * for_a + [b] * for_b + [""] * ties
    return [
        Choice(f"r{i % 7}", f"s{i // 7}", *((a, b) if i % 2 else (b, a)), name, f"s{i // 7}")
        for i, name in enumerate(chosen)
    ]


def test_eight_of_ten_by_the_book() -> None:
    """Clopper and Pearson's interval of 8 in 10, and the sign test: 2 x 56 / 1024."""
    (found,) = preferences(votes(8, 2))
    assert {found.a, found.b} == {"A", "B"}
    first = found.a == "A"
    assert found.share == pytest.approx(0.8 if first else 0.2)
    low, high = (0.4439, 0.9748) if first else (1 - 0.9748, 1 - 0.4439)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert found.p == pytest.approx(2 * 56 / 1024)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_the_exact_interval_and_test(for_a: int, for_b: int, ties: int) -> None:
    """Against beta quantiles, and the sum of all outcomes that are no likelier."""
    found = preferences(votes(for_a, for_b, ties))
    if not for_a + for_b + ties:
        assert found == ()
        return
    (one,) = found
    k, n = one.for_a, for_a + for_b
    assert {one.for_a, one.for_b} == {for_a, for_b}
    assert one.ties == ties
    if not n:
        assert math.isnan(one.share)
        assert math.isnan(one.p)
        return
    low = scipy.stats.beta.ppf(0.025, k, n - k + 1) if k else 0.0
    high = scipy.stats.beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
    assert (one.low, one.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))
    assert one.low <= one.share <= one.high
    chances = [math.comb(n, i) / 2**n for i in range(n + 1)]
    assert one.p == pytest.approx(
        min(1.0, math.fsum(c for c in chances if c <= chances[k] * (1 + 1e-7)))
    )


def test_ties_change_neither_share_nor_test() -> None:
    (plain,), (tied,) = preferences(votes(14, 4)), preferences(votes(14, 4, 9))
    assert (plain.share, plain.low, plain.p) == (tied.share, tied.low, tied.p)
    assert (plain.ties, tied.ties) == (0, 9)


def test_pairs_are_one_whichever_stands_first_and_holm_counts_them() -> None:
    found = preferences([*votes(15, 3), *votes(12, 5, a="A", b="C"), *votes(9, 9, a="B", b="C")])
    assert [{item.a, item.b} for item in found] == [{"A", "B"}, {"A", "C"}, {"B", "C"}]
    raw = sorted(item.p for item in found)
    assert sorted(item.p_adjusted for item in found)[0] == pytest.approx(3 * raw[0])
    assert [item.for_a + item.for_b for item in found] == [18, 17, 18]


def test_votes_of_one_mind_are_less_sure_over_raters() -> None:
    """Ten raters who each always say the same, on ten samples: ten opinions, not a hundred."""
    found = [
        Choice(f"r{i}", f"s{j}", "A", "B", "A" if i < 7 else "B", f"s{j}")
        for i in range(10)
        for j in range(10)
    ]
    (one,) = preferences(found)
    assert one.share == one.crossed.value == 0.7
    assert one.crossed.high - one.crossed.low > 2 * (one.high - one.low)
    assert one.shown_first == 70


# Beside metrics


def measured(values: dict[str, dict[str, object]], metric: str = "si_sdr") -> Measured:
    plugins.discover()
    return Measured((plugins.METRICS.get(metric),), {metric: values})


def test_correlations_are_those_of_scipy() -> None:
    rng = np.random.default_rng(8)
    systems = ("A", "B", "C", "D")
    scores = {
        name: rng.integers(1, 6, size=(5, 6)).astype(float) + i for i, name in enumerate(systems)
    }
    values = {
        name: {f"s{j:03}": float(rng.normal() + 2 * i) for j in range(6)}
        for i, name in enumerate(systems)
    }
    rated = [item for name in systems for item in table_of(scores[name], name)]
    found, notes = correlations(rated, measured(values))
    assert notes == ()
    by_level = {item.level: item for item in found}
    assert list(by_level) == ["systems", "samples", *(f"samples of {name}" for name in systems)]
    means = (
        [scores[name].mean() for name in systems],
        [float(np.mean(list(values[name].values()))) for name in systems],
    )
    pairs = (
        [m for name in systems for m in scores[name].mean(axis=0)],
        [v for name in systems for v in values[name].values()],
    )
    within = list(scores["B"].mean(axis=0)), list(values["B"].values())
    for level, (x, y) in {"systems": means, "samples": pairs, "samples of B": within}.items():
        one = by_level[level]
        assert one.n == len(x)
        assert one.pearson == pytest.approx(scipy.stats.pearsonr(x, y).statistic)
        assert one.spearman == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
        assert one.kendall == pytest.approx(scipy.stats.kendalltau(x, y).statistic)


def test_two_points_and_flat_sides_have_no_correlation() -> None:
    rated = [*table_of(np.full((2, 3), 4.0), "A"), *table_of(np.eye(3)[:2], "B")]
    values = {name: {f"s{j:03}": float(j) for j in range(3)} for name in "AB"}
    by_level = {item.level: item for item in correlations(rated, measured(values))[0]}
    assert by_level["systems"].n == 2
    assert math.isnan(by_level["systems"].pearson)
    assert math.isnan(by_level["samples of A"].kendall)
    assert math.isfinite(by_level["samples of B"].spearman)


def test_samples_match_by_id_or_by_their_last_part() -> None:
    values = {"lipvoicer": {"v1/a": 1.0, "v1/b": 2.0, "v2/c": 3.0, "v2/b": 4.0}}
    names = ("v1/a.wav", "C.WAV", "c.mp4", "b", "v2\\b", "nowhere")
    rated = [rating("r", name, "LipVoicer", i + 1) for i, name in enumerate(names)]
    found, notes = correlations(rated, measured(values))
    assert {item.level: item.n for item in found}["samples"] == 3
    assert notes == ("3 rated samples lack a value of some metric, such as C.WAV, b, nowhere.",)


def test_what_does_not_match_is_told_or_refused() -> None:
    values = {"A": {"s000": 1.0}}
    found, notes = correlations(
        [rating("r", "s000", "A", 4), rating("r", "s000", "Z", 4)], measured(values)
    )
    assert notes == ("Rated, but not in the run: Z.",)
    assert found[0].n == 1
    with pytest.raises(UserError, match="no rated system is in the run; rated are Z"):
        correlations([rating("r", "s000", "Z", 4)], measured(values))
    with pytest.raises(UserError, match="no rated sample was measured; rated are other"):
        correlations([rating("r", "other", "A", 4)], measured(values))


def test_a_metric_without_a_value_per_sample_is_there_for_systems_alone() -> None:
    rng = np.random.default_rng(0)
    vectors = {
        name: {f"s{j:03}": (rng.normal(size=2) + i, rng.normal(size=2)) for j in range(8)}
        for i, name in enumerate("ABC")
    }
    rated = [
        item for i, name in enumerate("ABC") for item in table_of(np.full((2, 8), 5.0 - i), name)
    ]
    found = {item.level: item for item in correlations(rated, measured(vectors, "fd_logmel"))[0]}
    assert found["systems"].n == 3
    assert found["systems"].spearman == -1.0
    assert found["samples"].n == 0


def test_a_ratio_counts_as_its_quotient_per_sample() -> None:
    values = {
        "A": {f"s{j:03}": Ratio(j, 4) for j in range(4)},
    }
    rated = table_of(np.array([[4.0, 3.0, 2.0, 1.0]] * 2))
    found = {item.level: item for item in correlations(rated, measured(values, "si_sdr"))[0]}
    assert found["samples"].pearson == pytest.approx(-1.0)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=3, max_size=30))
@settings(max_examples=80, deadline=None)
def test_correlations_against_scipy_on_ties(points: Sequence[tuple[int, int]]) -> None:
    x, y = [float(a) for a, _ in points], [float(b) for _, b in points]
    ours = stats.pearson(x, y), stats.spearman(x, y), stats.kendall(x, y)
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert all(map(math.isnan, ours))
        return
    theirs = scipy.stats.pearsonr, scipy.stats.spearmanr, scipy.stats.kendalltau
    assert ours == pytest.approx([f(x, y).statistic for f in theirs], abs=1e-12)


# The command


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, ["ratings", *map(str, arguments)])


def mushra(folder: Path) -> Path:
    rng = np.random.default_rng(6)
    lines = [
        f"r{i},s{j},{name},{min(100, level + rng.integers(-9, 10))}"
        for i in range(6)
        for j in range(4)
        for name, level in (("Ref|erence", 97), ("Gu<t>", 60), ("Übel", 30))
    ]
    return write(folder, HEAD + "\n".join(lines) + "\n")


def test_the_command_prints_and_writes_the_same(tmp_path: Path) -> None:
    done = run(mushra(tmp_path), "--scale", "mushra", "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out/ratings.json").read_text("utf-8"))
    assert found["scale"] == "mushra"
    assert [item["system"] for item in found["systems"]] == ["Ref|erence", "Gu<t>", "Übel"]
    assert [item["ranks"] for item in found["systems"]] == [[1, 1], [2, 2], [3, 3]]
    with (tmp_path / "out/ratings.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, item in zip(rows, found["systems"], strict=True):
        assert row["system"] == item["system"]
        assert float(row["value"]) == item["value"]
        assert float(row["low"]) == item["low"] <= item["value"] <= item["high"]
        assert f"{item['value']:.1f} ± {item['std']:.1f}" in done.stdout
        assert (int(row["raters"]), int(row["samples"]), int(row["n"])) == (6, 4, 24)
    text = (tmp_path / "out/ratings.md").read_text("utf-8")
    assert "Ref\\|erence" in text
    assert "Gu&lt;t&gt;" in text
    assert "pigeonhole bootstrap" in text
    assert "Fewer than ten raters or samples" in text


def test_the_figure_has_a_box_and_a_mean_per_system(tmp_path: Path) -> None:
    assert run(mushra(tmp_path), "--scale", "mushra", "--output", tmp_path).exit_code == 0
    root = ET.fromstring((tmp_path / "ratings.svg").read_text("utf-8"))
    tips = [item.text or "" for item in root.iter("{http://www.w3.org/2000/svg}title")]
    assert sum("mean" in tip and "n = 24, 95 %" in tip for tip in tips) == 3
    found = json.loads((tmp_path / "ratings.json").read_text("utf-8"))["systems"][2]
    assert any(f"Übel: mean {found['value']:.1f}" in tip for tip in tips)


def test_preferences_by_the_command(tmp_path: Path) -> None:
    lines = [
        f"r{i},s{j},X,Y,{'B' if (i + j) % 4 == 0 else 'A'}" for i in range(4) for j in range(5)
    ]
    path = write(tmp_path, AB + "\n".join([*lines, "r9,s1,X,Y,tie"]) + "\n")
    done = run(path, "--scale", "ab", "--output", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)["preferences"]
    test = scipy.stats.binomtest(15, 20)
    assert (found["for_a"], found["for_b"], found["ties"]) == (15, 5, 1)
    assert found["p"] == pytest.approx(test.pvalue)
    assert found["low"] == pytest.approx(test.proportion_ci().low)
    (row,) = csv.DictReader(io.StringIO((tmp_path / "ratings.csv").read_text("utf-8")))
    assert float(row["share"]) == 0.75
    svg = (tmp_path / "ratings.svg").read_text("utf-8")
    assert "15 for X" in svg
    assert "(1 tie)" in svg


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--scale", "stars"], "scales are mushra, ten, mos, ab"),
        (["--scale", "mos"], "out_of_range"),
        (["--scale", "ab"], "no column for 'a'"),
        (["--scale", "ab", "--screen", "Ref"], "are for scores"),
        (["--scale", "mushra", "--columns", "rater"], "--columns rater: write name=text"),
        (["--scale", "mushra", "--where", "x=1"], "there is no 'x'"),
        (["--scale", "mushra", "--screen", "Gut"], "there is no 'Gut'"),
        (["--scale", "mushra", "--store", "nowhere"], "nowhere"),
        ([], "--scale"),
    ],
)
def test_wrong_use_is_exit_code_2(tmp_path: Path, options: list[str], words: str) -> None:
    done = run(mushra(tmp_path), *options)
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stdout == ""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A run of three systems of growing noise, under two conditions of their own."""
    rng = np.random.default_rng(1)
    for number in range(4):
        tone = np.sin(np.arange(16_000) * (0.05 + 0.02 * number)) * 0.3
        media.write_wav(_place(tmp_path / "clean", number), Audio(tone.astype("f4"), 16_000))
        for level, name in enumerate(("Good", "Fair", "Bad")):
            rough = tone + rng.standard_normal(16_000) * 0.01 * 4**level
            path = _place(tmp_path / name, number)
            media.write_wav(path, Audio(rough.astype("f4"), 16_000))
    systems = ",".join(
        f"{{name: {name}, plugin: imported, params: {{folder: ./{name}, pattern: '{{id}}'}}}}"
        for name in ("Good", "Fair", "Bad")
    )
    (tmp_path / "p.yaml").write_text(
        f"{{name: p, task: lip2speech, metrics: [si_sdr], systems: [{systems}], datasets: ["
        "{name: one, kind: folder, options: {reference: ./clean, inputs: {audio: ./clean}}},"
        "{name: two, kind: folder, options: {reference: ./clean, inputs: {audio: ./clean}}}]}"
    )
    given = ["run", tmp_path / "p.yaml", "--store", tmp_path / "store", "--engine", "serial"]
    done = CliRunner().invoke(cli.app, [*map(str, given), "--tracking", "none", "--quiet"])
    assert done.exit_code == 0, done.output
    return tmp_path / "store"


def _place(folder: Path, number: int) -> Path:
    path = folder / "spk" / f"{number}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_ratings_beside_the_metrics_of_a_run(store: Path, tmp_path: Path) -> None:
    lines = [
        f"r{i},{j}.wav,{name},{score + (i + j) % 2}"
        for i in range(3)
        for j in range(4)
        for name, score in (("good", 4), ("FAIR", 3), ("Bad", 1), ("Reference", 4))
    ]
    path = write(tmp_path, HEAD + "\n".join(lines) + "\n")
    several = run(path, "--scale", "mos", "--store", store)
    assert several.exit_code == 2
    assert "say which rows: --dataset one" in several.stderr
    given = ("--store", store, "--dataset", "one", "--output", tmp_path / "out")
    done = run(path, "--scale", "mos", *given)
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out/ratings.json").read_text("utf-8"))["correlations"]
    by_level = {item["level"]: item for item in found}
    assert by_level["systems"]["spearman"] == 1.0
    assert by_level["systems"]["n"] == 3
    assert by_level["samples"]["n"] == 12
    assert "Rated, but not in the run: Reference." in done.stderr
    with (tmp_path / "out/correlations.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["level"] for row in rows] == [item["level"] for item in found]
    assert float(rows[1]["kendall"]) == by_level["samples"]["kendall"]
    assert "samples of" not in done.stdout
    wrong = run(path, "--scale", "mos", "--store", store, "--dataset", "none")
    assert wrong.exit_code == 2
    assert run(path, "--scale", "mos", "--store", store, "--condition", "x").exit_code == 2


def test_every_scale_and_alias_is_documented() -> None:
    assert set(ratings.SCALES) == {"mushra", "ten", "mos"}
    assert all(role == names[0] for role, names in ratings.ALIASES.items())
    aliases = [name for names in ratings.ALIASES.values() for name in names]
    assert len(set(aliases)) == len(aliases)
    assert all(name in listening.FLAGS for name in ("few_groups", "one_group", "zero_denominator"))
