"""dropout: the masks are not scaled, not applied, or not drawn anew."""

from __future__ import annotations

import numpy as np

from harness.explain.faults import lines
from harness.explain.faults.base import ONE, Fault
from harness.oracle.reference import Floats, at_steps, keep_scale
from harness.space.case import Case

DROPS = ONE.replace(num_layers=2, dropout=0.5, training=True)


class DropsWithoutScaling(Fault):
    """does not divide by 1 - p what dropout keeps."""

    family = "dropout"
    code = ("x = output * mask", lines.DROPOUT)
    smallest = (DROPS,)

    def factors(self, case: Case, layer: int) -> Floats | None:
        factors = super().factors(case, layer)
        return None if factors is None else (factors != 0).astype(np.float64)


class ScalesByKeepProbability(Fault):
    """multiplies by 1 - p what dropout keeps, and does not divide by it."""

    family = "dropout"
    code = ("x = output * mask * (1 - p)", lines.DROPOUT)
    smallest = (DROPS,)

    def factors(self, case: Case, layer: int) -> Floats | None:
        factors = super().factors(case, layer)
        return None if factors is None else np.where(factors != 0, 1 - case.config.dropout, 0.0)


class DividesByDropProbability(Fault):
    """divides what dropout keeps by p, and not by 1 - p."""

    family = "dropout"
    code = ("x = output * mask / p", lines.DROPOUT)
    smallest = (DROPS.replace(dropout=0.25),)

    def factors(self, case: Case, layer: int) -> Floats | None:
        factors = super().factors(case, layer)
        return None if factors is None else np.where(factors != 0, 1 / case.config.dropout, 0.0)


class ForgetsDropout(Fault):
    """forgets dropout in training: nothing is dropped, and nothing scaled."""

    family = "dropout"
    code = ("x = output", lines.DROPOUT)
    smallest = (DROPS,)

    def factors(self, case: Case, layer: int) -> Floats | None:
        return None


class KeepsWhatIsDropped(Fault):
    """keeps what dropout drops, and drops what it keeps."""

    family = "dropout"
    code = ("x = output * (1 - mask) / (1 - p)", lines.DROPOUT)
    smallest = (DROPS,)

    def factors(self, case: Case, layer: int) -> Floats | None:
        factors = super().factors(case, layer)
        return None if factors is None else np.where(factors == 0, keep_scale(case.config), 0.0)


class SharesMaskOverTime(Fault):
    """drops with the first time step's mask at every step."""

    family = "dropout"
    code = ("x = output * mask[0] / (1 - p)", lines.DROPOUT)
    smallest = (DROPS.replace(T=2),)

    def factors(self, case: Case, layer: int) -> Floats | None:
        factors = super().factors(case, layer)
        return None if factors is None else np.broadcast_to(factors[:1], factors.shape)


class SharesMaskOverBatch(Fault):
    """drops with the first sequence's mask in every sequence."""

    family = "dropout"
    code = ("x = output * mask[:, :1] / (1 - p)", lines.DROPOUT)
    smallest = (DROPS.replace(N=2),)

    def factors(self, case: Case, layer: int) -> Floats | None:
        factors = super().factors(case, layer)
        return None if factors is None else np.broadcast_to(factors[:, :1], factors.shape)


class DropsHn(Fault):
    """drops the inner layers' h_n, too, like their output."""

    family, stepwise = "dropout", False
    code = ("h_n[layer * D + d] = h * mask[t] / (1 - p)  # if layer < L - 1", lines.FINAL)
    smallest = (DROPS,)

    def run(self, case: Case) -> dict[str, Floats]:
        arrays = super().run(case)
        rows = zip(self.h_n_order(case.config), arrays["h_n"], strict=True)
        return arrays | {"h_n": np.stack([self._dropped(case, at, row) for at, row in rows])}

    def final_gradients(self, case: Case) -> dict[tuple[int, int], Floats]:
        return {at: self._dropped(case, at, row) for at, row in super().final_gradients(case).items()}

    def _dropped(self, case: Case, at: tuple[int, int], row: Floats) -> Floats:
        config, factors = case.config, self.factors(case, at[0])
        if factors is None:
            return row
        return self.dropped(row, at_steps(factors, self.final_step(config, at[1]))[:, self.features(config, at[1])])


class ForgetsMaskBack(Fault):
    """forgets dropout on the way back: what was dropped is given a gradient, and what was kept is not scaled."""

    family = "dropout"
    code = ("d_output = dx", lines.DROPOUT_BACK)
    smallest = (DROPS.replace(loss="output"),)

    def factors_back(self, case: Case, layer: int) -> Floats | None:
        return None


class ForgetsScaleBack(Fault):
    """does not divide by 1 - p on the way back what dropout keeps."""

    family = "dropout"
    code = ("d_output = dx * mask", lines.DROPOUT_BACK)
    smallest = (DROPS.replace(loss="output"),)

    def factors_back(self, case: Case, layer: int) -> Floats | None:
        factors = super().factors_back(case, layer)
        return None if factors is None else (factors != 0).astype(np.float64)
