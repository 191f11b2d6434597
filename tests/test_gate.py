"""The gate: every outcome, every cause of UNMEASURED, the file, the rules, the reports."""

import json
import math
import random
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscope import gate
from phonoscope.errors import GateError
from phonoscope.gate import (
    Baseline,
    Grade,
    RowData,
    Rule,
    Verdict,
    exit_code,
    judge,
    publish_summary,
    read_baseline,
    read_rules,
    rules_from,
    rules_of,
    to_junit,
    to_markdown,
    write_baseline,
)
from phonoscope.stats import LINEAR, estimate
from phonoscope.types import Estimate, Ratio

NOISE = np.random.default_rng(0).normal(size=40)


def row(values=None, *, n_failed=0, aggregate="mean", better="higher", groups=None, **changes):
    """Return a row of 40 clips of 20 speakers, its estimate made by `stats`."""
    if values is None:
        values = {f"clip{k:02d}": 3.0 + 0.5 * float(NOISE[k]) for k in range(40)}
    groups = groups or {sample: f"spk{k // 2}" for k, sample in enumerate(values)}
    found = estimate(
        list(values.values()), list(groups.values()), aggregate=LINEAR[aggregate], n_failed=n_failed
    )
    fields = {
        "system": "ours",
        "dataset": "lrs3",
        "dataset_revision": "r1",
        "condition": {"snr_db": -10, "noise": "babble"},
        "seed": 0,
        "metric": "pesq_wb",
        "metric_identity": "id1",
        "better": better,
        "estimate": found,
        "groups": groups,
        "values": values,
        "aggregate": aggregate,
        "recipe": {"version": "1", "weights": "aaa"},
    }
    return RowData(**{**fields, **changes})


def shifted(base: RowData, by: float, wobble: float = 0.0, **changes) -> RowData:
    noise = np.random.default_rng(1).normal(size=len(base.values)) * wobble
    values = {s: v + by + float(e) for (s, v), e in zip(base.values.items(), noise, strict=True)}
    return row(values, better=base.better, **changes)


def corpus(value: float, n: int = 5, **changes) -> RowData:
    fields = {
        "metric": "fd_logmel",
        "better": "lower",
        "aggregate": "frechet",
        "values": {},
        "groups": {f"clip{k}": "a" for k in range(n)},
        "estimate": Estimate(value, math.nan, math.nan, math.nan, n, flags=("rank_deficient",)),
    }
    return replace(row(), **{**fields, **changes})


def single(now, base, *rules) -> Verdict:
    (verdict,) = judge([now] if now else [], Baseline((base,)), rules)
    return verdict


# --- outcomes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_the_same_run_passes_with_no_margin(better) -> None:
    verdict = single(row(better=better), row(better=better))
    assert verdict.outcome is Grade.PASS
    assert (verdict.difference, verdict.low, verdict.high) == (0, 0, 0)
    assert verdict.n == 40 and exit_code([verdict]) == 0


@pytest.mark.parametrize(
    ("better", "by", "margin", "outcome"),
    [
        ("higher", -0.5, 0.05, Grade.WORSE),
        ("higher", +0.5, 0.05, Grade.PASS),
        ("lower", +0.5, 0.05, Grade.WORSE),
        ("lower", -0.5, 0.05, Grade.PASS),
        ("higher", 0.0, 0.05, Grade.INCONCLUSIVE),
        ("lower", 0.0, 0.05, Grade.INCONCLUSIVE),
        ("higher", 0.0, 0.2, Grade.PASS),
        ("lower", 0.0, 0.2, Grade.PASS),
        ("higher", -0.5, 1.0, Grade.PASS),
        ("higher", 0.0, 0.0, Grade.INCONCLUSIVE),
    ],
)
def test_the_interval_against_the_margin(better, by, margin, outcome) -> None:
    base = row(better=better)
    verdict = single(shifted(base, by, wobble=0.3), base, Rule(metric="pesq_wb", margin=margin))
    assert verdict.outcome is outcome
    assert verdict.low <= verdict.difference <= verdict.high
    assert verdict.margin == margin
    assert exit_code([verdict]) == int(outcome)


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_a_drop_of_just_the_margin_passes_in_spite_of_rounding(better) -> None:
    base = row(better=better)
    by = -0.3 if better == "higher" else 0.3
    now = shifted(base, by)
    assert single(now, base, Rule(margin=0.3)).outcome is Grade.PASS
    assert single(now, base, Rule(margin=0.2999)).outcome is Grade.WORSE


def test_both_decisions_seldom_err_where_the_true_drop_is_the_margin() -> None:
    """At the margin itself PASS and WORSE are both wrong: each happens seldom."""
    rng = np.random.default_rng(3)
    outcomes = []
    for _ in range(300):
        groups = {f"c{k:02d}": f"s{k // 2:02d}" for k in range(80)}
        speaker = np.repeat(rng.normal(size=40), 2) * 0.2
        before = rng.normal(3.0, 0.5, size=80)
        after = before - 0.1 + speaker + 0.1 * rng.normal(size=80)
        base, now = (
            row(dict(zip(groups, v.tolist(), strict=True)), groups=groups) for v in (before, after)
        )
        outcomes.append(single(now, base, Rule(margin=0.1)).outcome)
    assert 0 < outcomes.count(Grade.PASS) < 0.06 * 300
    assert 0 < outcomes.count(Grade.WORSE) < 0.06 * 300


def test_relative_margin_is_a_share_of_the_baseline() -> None:
    base = row()
    now = shifted(base, -0.1 * base.estimate.value)
    assert single(now, base, Rule(relative=0.11)).outcome is Grade.PASS
    assert single(now, base, Rule(relative=0.09)).outcome is Grade.WORSE


def test_a_pooled_ratio_is_compared_as_one() -> None:
    rng = np.random.default_rng(2)
    words = rng.integers(5, 15, size=40)

    def wer(share):
        values = {
            f"c{k:02d}": Ratio(float(rng.binomial(words[k], share)), float(words[k]))
            for k in range(40)
        }
        return row(values, aggregate="ratio_of_sums", better="lower", metric="wer")

    base, worse = wer(0.2), wer(0.5)
    verdict = single(worse, base, Rule(margin=0.05))
    assert verdict.outcome is Grade.WORSE
    assert verdict.difference == worse.estimate.value - base.estimate.value
    assert single(base, base).outcome is Grade.PASS


def test_one_group_is_inconclusive_unless_nothing_changed() -> None:
    base = row(groups={f"clip{k:02d}": "one" for k in range(40)})
    assert single(base, base).outcome is Grade.PASS
    now = row({s: v - 0.5 for s, v in base.values.items()}, groups=base.groups)
    verdict = single(now, base)
    assert verdict.outcome is Grade.INCONCLUSIVE and "one group" in verdict.reason
    assert exit_code([verdict]) == 3


def test_few_groups_are_said() -> None:
    base = row({f"c{k}": float(k) for k in range(6)})
    verdict = single(shifted(base, -1.0), base)
    assert verdict.outcome is Grade.WORSE and "only 3 groups" in verdict.reason


def test_corpus_aggregates_are_compared_by_value() -> None:
    base = corpus(4.0)
    assert single(corpus(4.0), base).outcome is Grade.PASS
    assert single(corpus(3.0), base).outcome is Grade.PASS
    assert single(corpus(4.5), base, Rule(margin=0.6)).outcome is Grade.PASS
    verdict = single(corpus(4.5), base)
    assert verdict.outcome is Grade.WORSE and verdict.difference == 0.5
    assert math.isnan(verdict.low)


def test_clips_that_only_this_run_has_are_left_out_and_said() -> None:
    now = row()
    kept = dict(list(now.values.items())[:30])
    base = row(kept, groups={s: now.groups[s] for s in kept})
    verdict = single(now, base)
    assert verdict.outcome is Grade.PASS and verdict.n == 30 and verdict.difference == 0
    assert "10 clips that the baseline lacks" in verdict.reason


# --- UNMEASURED -------------------------------------------------------------------------------

BASE = row()
NAN = Estimate(math.nan, math.nan, math.nan, math.nan, 40)
SHORT = dict(list(BASE.values.items())[:38])
CAUSES = {
    "no such row": None,
    "another dataset revision: r1 before, r2 now": replace(BASE, dataset_revision="r2"),
    "metric identity: id1 before, id2 now (version 1 -> 2)": replace(
        BASE, metric_identity="id2", recipe={"version": "2", "weights": "aaa"}
    ),
    "(weights aaa -> bbb)": replace(
        BASE, metric_identity="id2", recipe={"version": "1", "weights": "bbb"}
    ),
    "another better": replace(BASE, better="lower"),
    "another aggregate": replace(BASE, aggregate="ratio_of_sums"),
    "value is nan": replace(BASE, estimate=NAN),
    "value of 'clip07' is not finite": replace(BASE, values={**BASE.values, "clip07": math.nan}),
    "value of 'clip08' is not finite": replace(
        BASE, values={**BASE.values, "clip08": Ratio(1.0, math.inf)}
    ),
    "2 clips of the baseline were not measured: 'clip38', 'clip39'": row(
        SHORT, groups={s: BASE.groups[s] for s in SHORT}, n_failed=0
    ),
    "1 samples failed, 0 are allowed": row(n_failed=1),
    "another group of 'clip00'": replace(BASE, groups={**BASE.groups, "clip00": "spk9"}),
}


@pytest.mark.parametrize("reason", CAUSES)
def test_what_cannot_be_compared_is_unmeasured_never_a_pass(reason) -> None:
    verdict = single(CAUSES[reason], BASE, Rule(margin=1e9))
    assert verdict.outcome is Grade.UNMEASURED
    assert reason in verdict.reason
    assert exit_code([verdict]) == 2


@pytest.mark.parametrize(
    "change",
    [{"system": "x"}, {"dataset": "x"}, {"seed": 1}, {"metric": "x"}, {"condition": {"snr_db": 0}}],
)
def test_a_row_of_another_name_is_no_measurement(change) -> None:
    assert single(replace(BASE, **change), BASE).outcome is Grade.UNMEASURED


def test_all_causes_are_told_at_once() -> None:
    now = row(n_failed=3, dataset_revision="r2", metric_identity="id2")
    reason = single(now, BASE).reason
    assert "revision" in reason and "identity" in reason and "3 samples failed" in reason


def test_allowed_failures() -> None:
    base = row(n_failed=2)
    assert single(row(n_failed=2), base).outcome is Grade.PASS
    assert single(row(n_failed=3), base).outcome is Grade.UNMEASURED
    assert single(row(n_failed=3), base, Rule(max_failed=3)).outcome is Grade.PASS
    assert single(row(n_failed=2), base, Rule(max_failed=1)).outcome is Grade.UNMEASURED


def test_a_failed_clip_of_the_baseline_is_unmeasured_however_many_failures_are_allowed() -> None:
    now = row(SHORT, groups={s: BASE.groups[s] for s in SHORT}, n_failed=2)
    assert single(now, BASE, Rule(max_failed=40, margin=9)).outcome is Grade.UNMEASURED


def test_a_corpus_of_other_clips_is_unmeasured() -> None:
    assert single(corpus(4.0, n=6), corpus(4.0, n=5)).outcome is Grade.UNMEASURED
    assert single(corpus(4.0, n=4), corpus(4.0, n=5)).outcome is Grade.UNMEASURED
    nan = corpus(4.0, estimate=Estimate(math.nan, math.nan, math.nan, math.nan, 5))
    assert single(nan, corpus(4.0)).outcome is Grade.UNMEASURED


def test_a_pooled_ratio_without_words_in_common_is_unmeasured() -> None:
    empty = {"a": Ratio(0.0, 0.0), "b": Ratio(0.0, 0.0)}
    fields = {"aggregate": "ratio_of_sums", "better": "lower"}
    base = row({"a": Ratio(1.0, 2.0), "b": Ratio(0.0, 3.0)}, **fields)
    now = row(empty | {"c": Ratio(1.0, 2.0)}, **fields)
    now = replace(now, groups={**now.groups, **base.groups})
    verdict = single(now, base)
    assert verdict.outcome is Grade.UNMEASURED and "denominators" in verdict.reason


def test_an_empty_baseline_is_unmeasured() -> None:
    verdicts = judge([BASE], Baseline(()))
    assert [v.outcome for v in verdicts] == [Grade.UNMEASURED]
    assert exit_code([]) == 2


def test_rows_must_agree_with_themselves() -> None:
    with pytest.raises(ValueError, match="n is 40, but 39"):
        replace(BASE, groups=dict(list(BASE.groups.items())[1:]))
    with pytest.raises(ValueError, match="'clip00' has a value or a group"):
        replace(BASE, values=dict(list(BASE.values.items())[1:]))


def test_two_rows_of_one_name_are_refused() -> None:
    with pytest.raises(GateError, match="this run has two rows of pesq_wb of ours"):
        judge([BASE, BASE], Baseline((BASE,)))


# --- precedence -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grades", "code"),
    [
        ([Grade.PASS, Grade.PASS], 0),
        ([Grade.PASS, Grade.INCONCLUSIVE], 3),
        ([Grade.INCONCLUSIVE, Grade.UNMEASURED, Grade.PASS], 2),
        ([Grade.UNMEASURED, Grade.INCONCLUSIVE, Grade.WORSE, Grade.PASS], 1),
    ],
)
def test_the_gravest_verdict_is_the_exit_code(grades, code) -> None:
    assert exit_code([Verdict(Rule(), BASE, grade, "") for grade in grades]) == code


# --- rules ------------------------------------------------------------------------------------


def test_the_first_rule_that_is_for_a_row_judges_it() -> None:
    base = row()
    now = shifted(base, -0.3)
    wide, narrow = Rule(metric="pesq_*", margin=1), Rule(metric="*", margin=0.1)
    assert single(now, base, wide, narrow).outcome is Grade.PASS
    assert single(now, base, narrow, wide).outcome is Grade.WORSE


def test_selectors() -> None:
    assert Rule(condition={"snr_db": -10}).matches(BASE)
    assert Rule(condition={"snr_db": -10.0, "noise": "bab*"}).matches(BASE)
    assert not Rule(condition={"snr_db": "-5"}).matches(BASE)
    assert not Rule(condition={"enrollment": "*"}).matches(BASE)
    assert Rule(system="our?", dataset="lrs*").matches(BASE)
    assert not Rule(system="OURS").matches(BASE)
    odd = replace(BASE, system="ours[small]")
    assert Rule(system="ours[small]").matches(odd)


def test_rows_that_no_rule_is_for_are_left_alone() -> None:
    other = replace(BASE, metric="estoi")
    verdicts = judge([BASE], Baseline((BASE, other)), [Rule(metric="pesq_wb")])
    assert [v.outcome for v in verdicts] == [Grade.PASS]


def test_a_rule_for_no_row_is_unmeasured() -> None:
    verdicts = judge([BASE], Baseline((BASE,)), [Rule(), Rule(metric="pesk_wb", system="ours")])
    assert [v.outcome for v in verdicts] == [Grade.PASS, Grade.UNMEASURED]
    assert "metric=pesk_wb, system=ours" in verdicts[1].reason


def test_rules_of_options() -> None:
    assert rules_of(["pesq_wb=0.05", "wer*=2%"]) == [
        Rule(metric="pesq_wb", margin=0.05),
        Rule(metric="wer*", relative=0.02),
        Rule(),
    ]
    rest = [Rule(metric="estoi")]
    assert rules_of([], rest) == rest
    assert rules_of([]) == [Rule()]


@pytest.mark.parametrize("text", ["pesq_wb", "=0.1", "pesq_wb=", "a=-1", "a=nan", "a=inf", "a=x%"])
def test_bad_options_say_what_to_write(text) -> None:
    with pytest.raises(GateError, match="METRIC=NUMBER"):
        rules_of([text])


def test_rules_from_a_file(tmp_path) -> None:
    file = tmp_path / "gate.yaml"
    body = "- metric: pesq_wb\n  margin: 0.05\n  condition: {snr_db: -10}\n- {relative: 0.1}\n"
    file.write_text(body)
    expected = [
        Rule(metric="pesq_wb", margin=0.05, condition={"snr_db": -10}),
        Rule(relative=0.1),
    ]
    assert read_rules(file) == expected
    file.write_text(f"rules:\n{body}")
    assert read_rules(file) == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("- {metrik: a}", r"rules\[0\]\.metrik"),
        ("- {margin: -1}", r"rules\[0\]\.margin"),
        ("- {margin: .nan}", r"rules\[0\]\.margin"),
        ("- {}\n- {margin: 1, relative: 1}", r"rules\[1\]: .*not both"),
        ("- 3", r"rules\[0\]"),
        ("metric: a", "rules are a list"),
        ("", "rules are a list"),
        ("- [", "cannot be read"),
    ],
)
def test_bad_rules_name_file_and_key(tmp_path, body, message) -> None:
    file = tmp_path / "gate.yaml"
    file.write_text(body)
    with pytest.raises(GateError, match=message) as caught:
        read_rules(file)
    assert "gate.yaml" in str(caught.value)
    with pytest.raises(GateError, match="cannot be read"):
        read_rules(tmp_path / "none.yaml")


def test_rules_from_plain_data_names_where() -> None:
    with pytest.raises(GateError, match=r"p\.yaml gate: rules\[0\]\.margin"):
        rules_from([{"margin": "wide"}], "p.yaml gate")


# --- the file ---------------------------------------------------------------------------------


def rows() -> list[RowData]:
    ratio = row(
        {"é|'\"": Ratio(1.0, 3.0), "b": Ratio(0.1, 7.0)}, aggregate="ratio_of_sums", metric="wer"
    )
    numbers = [0, -5, 5.5, None, True, "x"]
    more = [replace(BASE, condition={"snr_db": number}) for number in numbers]
    return [BASE, ratio, corpus(2.5), replace(BASE, seed=1), *more]


def tidy(item: RowData) -> str:
    """Return all that a row holds, mappings sorted."""
    mappings = {name: dict(sorted(getattr(item, name).items())) for name in MAPPINGS}
    return repr({**vars(item), **mappings})


MAPPINGS = ("values", "groups", "condition", "recipe")


def test_a_baseline_comes_back_exactly(tmp_path) -> None:
    file = tmp_path / "deep" / "baseline.json"
    write_baseline(file, rows(), created={"phonoscope": "1.0"})
    found = read_baseline(file)
    assert found.created == {"phonoscope": "1.0"}
    assert sorted(map(tidy, found.rows)) == sorted(map(tidy, rows()))
    assert exit_code(judge(rows(), found)) == 0


def test_bytes_do_not_depend_on_order(tmp_path) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    write_baseline(one, rows())
    turned = [replace(r, values=dict(reversed(r.values.items()))) for r in reversed(rows())]
    write_baseline(two, turned)
    assert one.read_bytes() == two.read_bytes()
    write_baseline(one, read_baseline(two).rows)
    assert one.read_bytes() == two.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.json", "two.json"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=8), st.randoms())
def test_any_floats_come_back_and_pass(tmp_path_factory, values, shuffler: random.Random) -> None:
    file = tmp_path_factory.mktemp("gate") / "b.json"
    base = row({f"c{k}": value for k, value in enumerate(values)})
    write_baseline(file, [base])
    found = read_baseline(file)
    assert dict(found.rows[0].values) == dict(base.values)
    shuffled = list(base.values.items())
    shuffler.shuffle(shuffled)
    verdict = single(replace(base, values=dict(shuffled)), found.rows[0])
    assert verdict.outcome is Grade.PASS


@pytest.mark.parametrize("bad", ["value is nan", "value of 'clip07' is not finite"])
def test_what_was_not_measured_is_no_baseline(tmp_path, bad) -> None:
    file = tmp_path / "b.json"
    write_baseline(file, [BASE])
    before = file.read_bytes()
    with pytest.raises(GateError, match=r"pesq_wb of ours on lrs3.* no finite value"):
        write_baseline(file, [CAUSES[bad]])
    assert file.read_bytes() == before


def test_unwritable_folder_and_double_rows(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GateError, match=r"b\.json: the baseline cannot be written"):
        write_baseline(tmp_path / "file" / "b.json", [BASE])
    with pytest.raises(GateError, match="two rows"):
        write_baseline(tmp_path / "b.json", [BASE, BASE])


def edit(path, *keys, to) -> str:
    """Return the file with one entry replaced."""
    data = json.loads(path.read_text())
    inner = data
    for key in keys[:-1]:
        inner = inner[key]
    if to is KeyError:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = to
    return json.dumps(data)


@pytest.mark.parametrize(
    ("keys", "to", "message"),
    [
        (("rows", 0, "metrik"), "x", r"rows\[0\]\.metrik"),
        (("rows", 0, "metric"), KeyError, r"rows\[0\]\.metric: Field required"),
        (("rows", 0, "better"), "more", r"rows\[0\]\.better"),
        (("rows", 0, "seed"), "0", r"rows\[0\]\.seed"),
        (("rows", 0, "estimate", "value"), None, r"rows\[0\]\.estimate\.value"),
        (("rows", 0, "estimate", "n_failed"), -1, r"rows\[0\]\.estimate\.n_failed"),
        (("rows", 0, "estimate", "value"), 9.0, r"rows\[0\]\.estimate\.value is 9\.0, but"),
        (("rows", 0, "values", "clip00"), 9.0, r"rows\[0\]\.estimate\.value"),
        (("rows", 0, "values", "clip00"), "3", r"rows\[0\]\.values\.clip00"),
        (("rows", 0, "values", "clip00"), [1.0, 0.0], r"rows\[0\]\.values: .*denominator"),
        (("rows", 0, "values", "clip00"), [1.0], r"rows\[0\]\.values\.clip00"),
        (("rows", 0, "values", "clip00"), KeyError, r"rows\[0\]\.values: .*'clip00'"),
        (("rows", 0, "groups"), {}, r"rows\[0\]"),
        (("schema_version",), 2, "schema_version is 2"),
        (("schema_version",), KeyError, "schema_version is None"),
        (("rows",), 3, "rows: "),
    ],
)
def test_a_broken_baseline_names_file_and_key(tmp_path, keys, to, message) -> None:
    file = tmp_path / "b.json"
    write_baseline(file, [BASE])
    file.write_text(edit(file, *keys, to=to))
    with pytest.raises(GateError, match=message) as caught:
        read_baseline(file)
    assert str(caught.value).startswith(str(file))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[1]", "schema_version is None"),
        (b'{"schema_version": 1, "schema_version": 1}', "'schema_version' is there twice"),
        (b'{"schema_version": NaN}', "NaN is no number"),
        (b"[" * 200_000, "cannot be read"),
    ],
)
def test_what_is_no_baseline_at_all(tmp_path, body, message) -> None:
    file = tmp_path / "b.json"
    file.write_bytes(body)
    with pytest.raises(GateError, match=message):
        read_baseline(file)


def test_infinity_written_as_a_large_number_is_refused(tmp_path) -> None:
    file = tmp_path / "b.json"
    write_baseline(file, [corpus(2.5)])
    file.write_text(file.read_text().replace("2.5", "1e999"))
    with pytest.raises(GateError, match=r"rows\[0\]\.estimate\.value"):
        read_baseline(file)


def test_no_baseline_yet(tmp_path) -> None:
    with pytest.raises(GateError, match="no baseline yet"):
        read_baseline(tmp_path / "b.json")


def test_a_row_that_is_there_twice_is_refused(tmp_path) -> None:
    file = tmp_path / "b.json"
    write_baseline(file, [BASE])
    data = json.loads(file.read_text())
    file.write_text(json.dumps({**data, "rows": data["rows"] * 2}))
    with pytest.raises(GateError, match=r"b\.json has two rows"):
        read_baseline(file)


# --- reports ----------------------------------------------------------------------------------

EVIL = replace(BASE, system="a|b <script>alert(1)</script> `x` [y](http://z) _e_ *f*\nnext \x01")


def verdicts() -> list[Verdict]:
    base = [EVIL, replace(BASE, metric="worse"), replace(BASE, metric="vague"), BASE]
    now = [
        replace(shifted(BASE, -1.0), metric="worse"),
        replace(shifted(BASE, 0.0, wobble=0.3), metric="vague"),
        BASE,
    ]
    return judge(now, Baseline(tuple(base)), [Rule(margin=0.05), Rule(metric="gone")])


def test_markdown_is_escaped_and_puts_the_gravest_first() -> None:
    text = to_markdown(verdicts())
    lines = text.splitlines()
    assert lines[0] == "### Gate: WORSE"
    assert "1 WORSE, 2 UNMEASURED, 1 INCONCLUSIVE, 1 PASS" in text
    table = [line for line in lines if line.startswith("|")]
    assert [line.split("|")[1].strip(" *") for line in table[2:]] == [
        "WORSE",
        "UNMEASURED",
        "UNMEASURED",
        "INCONCLUSIVE",
        "PASS",
    ]
    assert len({line.count("|") for line in table}) == 1
    assert "<script>" not in text and "](" not in text and "`" not in text and "_e_" not in text
    assert "a&#124;b &#60;script&#62;" in text
    assert "pesq_wb" in text


def test_markdown_of_nothing() -> None:
    assert to_markdown([]).startswith("### Gate: UNMEASURED\n\nnothing was judged")


def test_junit_is_xml_with_a_case_for_each_verdict() -> None:
    found = verdicts()
    suite = ET.fromstring(to_junit(found)).find("testsuite")
    assert suite.attrib["tests"] == "5"
    assert (suite.attrib["failures"], suite.attrib["errors"]) == ("2", "2")
    cases = suite.findall("testcase")
    assert [[c.tag for c in case] for case in cases] == [
        ["error"],
        ["failure"],
        ["failure"],
        [],
        ["error"],
    ]
    kinds = [child.attrib["type"] for case in cases for child in case]
    assert kinds == ["UNMEASURED", "WORSE", "INCONCLUSIVE", "UNMEASURED"]
    assert "<script>" in cases[0].attrib["classname"]
    assert cases[1].find("failure").attrib["message"] == found[1].reason
    assert "snr_db=-10" in cases[1].attrib["name"]


def test_reports_do_not_change_from_call_to_call() -> None:
    assert to_markdown(verdicts()) == to_markdown(verdicts())
    assert to_junit(verdicts()) == to_junit(verdicts())


def test_summary_is_appended_where_github_asks_for_it(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert publish_summary("x") is False
    file = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    assert publish_summary("one\n") and publish_summary("two")
    assert file.read_text() == "one\n\ntwo\n\n"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    with pytest.raises(GateError, match="GITHUB_STEP_SUMMARY"):
        publish_summary("x")


def test_severity_names_every_grade() -> None:
    assert sorted(gate.SEVERITY) == sorted(Grade)
