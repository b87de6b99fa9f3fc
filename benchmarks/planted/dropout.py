"""dropout: the masks are not scaled, not applied, or not drawn anew."""

from typing import Final

import numpy as np

from benchmarks.planted.base import ONE, Fault
from benchmarks.planted.layer import Floats, Layer, Place, at_steps, keep_scale
from harness.space.case import Case

DROPS = ONE.replace(num_layers=2, dropout=0.5, training=True)


def _drops_without_scaling(right: Layer, case: Case, layer: int) -> Floats | None:
    factors = right.factors(case, layer)
    return None if factors is None else (factors != 0).astype(np.float64)


def _scales_by_keep_probability(right: Layer, case: Case, layer: int) -> Floats | None:
    factors = right.factors(case, layer)
    return None if factors is None else np.where(factors != 0, 1 - case.config.dropout, 0.0)


def _divides_by_drop_probability(right: Layer, case: Case, layer: int) -> Floats | None:
    factors = right.factors(case, layer)
    return None if factors is None else np.where(factors != 0, 1 / case.config.dropout, 0.0)


def _forgets_dropout(right: Layer, case: Case, layer: int) -> Floats | None:
    return None


def _keeps_what_is_dropped(right: Layer, case: Case, layer: int) -> Floats | None:
    factors = right.factors(case, layer)
    return None if factors is None else np.where(factors == 0, keep_scale(case.config), 0.0)


def _shares_mask_over_time(right: Layer, case: Case, layer: int) -> Floats | None:
    factors = right.factors(case, layer)
    return None if factors is None else np.broadcast_to(factors[:1], factors.shape)


def _shares_mask_over_batch(right: Layer, case: Case, layer: int) -> Floats | None:
    factors = right.factors(case, layer)
    return None if factors is None else np.broadcast_to(factors[:, :1], factors.shape)


def _drops_hn_run(right: Layer, case: Case) -> dict[str, Floats]:
    arrays = right.run(case)
    rows = zip(right.h_n_order(case.config), arrays["h_n"], strict=True)
    return arrays | {"h_n": np.stack([_dropped(right, case, at, row) for at, row in rows])}


def _drops_hn_final_gradients(right: Layer, case: Case) -> dict[tuple[int, int], Floats]:
    return {at: _dropped(right, case, at, row) for at, row in right.final_gradients(case).items()}


def _dropped(right: Layer, case: Case, at: Place, row: Floats) -> Floats:
    config, factors = case.config, right.factors(case, at[0])
    if factors is None:
        return row
    return right.dropped(row, at_steps(factors, right.final_step(config, at[1]))[:, right.features(config, at[1])])


def _forgets_mask_back(right: Layer, case: Case, layer: int) -> Floats | None:
    return None


def _forgets_scale_back(right: Layer, case: Case, layer: int) -> Floats | None:
    factors = right.factors_back(case, layer)
    return None if factors is None else (factors != 0).astype(np.float64)


FAULTS: Final = (
    Fault(
        "DropsWithoutScaling",
        "does not divide what dropout keeps by 1 - p",
        {"factors": _drops_without_scaling},
        smallest=(DROPS,),
    ),
    Fault(
        "ScalesByKeepProbability",
        "multiplies what dropout keeps by 1 - p, and does not divide by it",
        {"factors": _scales_by_keep_probability},
        smallest=(DROPS,),
    ),
    Fault(
        "DividesByDropProbability",
        "divides what dropout keeps by p, and not by 1 - p",
        {"factors": _divides_by_drop_probability},
        smallest=(DROPS.replace(dropout=0.25),),
    ),
    Fault(
        "ForgetsDropout",
        "forgets dropout in training: nothing is dropped, and nothing scaled",
        {"factors": _forgets_dropout},
        smallest=(DROPS,),
    ),
    Fault(
        "KeepsWhatIsDropped",
        "keeps what dropout drops, and drops what it keeps",
        {"factors": _keeps_what_is_dropped},
        smallest=(DROPS,),
    ),
    Fault(
        "SharesMaskOverTime",
        "drops with the first time step's mask at every step",
        {"factors": _shares_mask_over_time},
        smallest=(DROPS.replace(T=2),),
    ),
    Fault(
        "SharesMaskOverBatch",
        "drops with the first sequence's mask in every sequence",
        {"factors": _shares_mask_over_batch},
        smallest=(DROPS.replace(N=2),),
    ),
    Fault(
        "DropsHn",
        "drops the inner layers' h_n, too, like their output",
        {"run": _drops_hn_run, "final_gradients": _drops_hn_final_gradients},
        smallest=(DROPS,),
    ),
    Fault(
        "ForgetsMaskBack",
        "forgets dropout on the way back: what was dropped gets a gradient, and what was kept is not scaled",
        {"factors_back": _forgets_mask_back},
        smallest=(DROPS.replace(loss="output"),),
    ),
    Fault(
        "ForgetsScaleBack",
        "does not divide what dropout keeps by 1 - p on the way back",
        {"factors_back": _forgets_scale_back},
        smallest=(DROPS.replace(loss="output"),),
    ),
)
