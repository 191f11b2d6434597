"""DNSMOS: predicted quality of speech without a reference, on a scale of 1 to 5.

Three networks are three views, so that a protocol pays for what it shows. The names without a
suffix follow the published script, whose floating-point window loss (`window="reference"`) is part
of the published numbers; ``_exact`` scores every window. "DNSMOS" alone in a paper is most often
`dnsmos_p808`.

Reddy et al., ICASSP 2021 (P.808) and ICASSP 2022 (P.835); microsoft/DNS-Challenge.
"""

from __future__ import annotations

from typing import Any, cast

from phonoscope.metrics.networks import dnsmos as networks
from phonoscope.metrics.speech import speech16k
from phonoscope.plugins import Metric, metric
from phonoscope.types import Record
from phonoscope.views import View, view


@view(of=speech16k, version="1", weights=[networks.P808.weight])
class dnsmos_p808_scores(networks.P808):
    """`p808` of one clip; see `phonoscope.metrics.networks.dnsmos.window_plan` for `window`."""


@view(of=speech16k, version="1", weights=[networks.P835.weight])
class dnsmos_p835_scores(networks.P835):
    """`sig`, `bak` and `ovrl` of one clip, and the network's own scale as `sig_raw` and so on."""


@view(of=speech16k, version="1", weights=[networks.PersonalP835.weight])
class dnsmos_personal_scores(networks.PersonalP835):
    """As `dnsmos_p835_scores`, personalised: other talkers count as background."""


MEANINGS = {
    "p808": "Overall quality as rated after ITU-T P.808. Does not move with the level.",
    "sig": "Quality of the speech signal as rated after ITU-T P.835. Moves with the level.",
    "bak": "How little the background disturbs, rated after ITU-T P.835. Moves with the level.",
    "ovrl": "Overall quality as rated after ITU-T P.835. Moves with the level.",
}


def _dnsmos(name: str, scores: View, score: str, *, title: str) -> Metric:
    """Register one column of `scores`; `n_scored`, `n_hops` and `window` go to the info."""
    window = "exact" if name.endswith("_exact") else "reference"

    def measure(generated: dict[str, Any]) -> Record:
        counts = {key: int(generated[key]) for key in ("n_scored", "n_hops")}
        return Record(float(generated[score]), info={**counts, "window": window})

    measure.__name__ = name
    measure.__doc__ = f"{MEANINGS[score]} Mean over windows of 9.01 s, mode `{window}`."
    seen = scores if window == "reference" else scores(window=window)
    label = f"DNSMOS ({title}, window={window})"
    return metric(unit="MOS", better="higher", label=label, generated=seen)(measure)


# A type checker does not see that `view` makes a View of a class.
_P808 = cast(View, dnsmos_p808_scores)
_P835 = cast(View, dnsmos_p835_scores)
_PERSONAL = cast(View, dnsmos_personal_scores)

dnsmos_p808 = _dnsmos("dnsmos_p808", _P808, "p808", title="P.808")
dnsmos_sig = _dnsmos("dnsmos_sig", _P835, "sig", title="P.835 SIG")
dnsmos_bak = _dnsmos("dnsmos_bak", _P835, "bak", title="P.835 BAK")
dnsmos_ovrl = _dnsmos("dnsmos_ovrl", _P835, "ovrl", title="P.835 OVRL")
dnsmos_personal_sig = _dnsmos(
    "dnsmos_personal_sig", _PERSONAL, "sig", title="P.835 personalised SIG"
)
dnsmos_personal_bak = _dnsmos(
    "dnsmos_personal_bak", _PERSONAL, "bak", title="P.835 personalised BAK"
)
dnsmos_personal_ovrl = _dnsmos(
    "dnsmos_personal_ovrl", _PERSONAL, "ovrl", title="P.835 personalised OVRL"
)

dnsmos_p808_exact = _dnsmos("dnsmos_p808_exact", _P808, "p808", title="P.808")
dnsmos_sig_exact = _dnsmos("dnsmos_sig_exact", _P835, "sig", title="P.835 SIG")
dnsmos_bak_exact = _dnsmos("dnsmos_bak_exact", _P835, "bak", title="P.835 BAK")
dnsmos_ovrl_exact = _dnsmos("dnsmos_ovrl_exact", _P835, "ovrl", title="P.835 OVRL")
dnsmos_personal_sig_exact = _dnsmos(
    "dnsmos_personal_sig_exact", _PERSONAL, "sig", title="P.835 personalised SIG"
)
dnsmos_personal_bak_exact = _dnsmos(
    "dnsmos_personal_bak_exact", _PERSONAL, "bak", title="P.835 personalised BAK"
)
dnsmos_personal_ovrl_exact = _dnsmos(
    "dnsmos_personal_ovrl_exact", _PERSONAL, "ovrl", title="P.835 personalised OVRL"
)
