"""Tests of searches on the weights of a user's model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import RNNConfig, Verdict, as_subject, check, draw
from harness.search.own_weights import NEAR_WEIGHTS, load_weights
from harness.search.search import Search
from harness.search.search_options import SearchOptions
from harness.search.workers import WorkerPool
from harness.space.errors import UsageError
from harness.space.scope import Scope

WIDE = RNNConfig(3, 2, num_layers=2, bidirectional=True)


def clips(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Clip weights at 1, of one layer."""
    if config.num_layers > 1 or config.bidirectional or config.nonlinearity != "tanh" or config.batch_first:
        raise NotImplementedError
    own = {name: np.clip(array, -1, 1) for name, array in weights.items()}
    output, h = [], h0[0]
    for x_t in x:
        h = np.tanh(x_t @ own["weight_ih_l0"].T + h @ own["weight_hh_l0"].T + own["bias_ih_l0"] + own["bias_hh_l0"])
        output.append(h)
    return np.stack(output), h[None].copy()


def saved(path: Path, config: RNNConfig, factor: float) -> str:
    case = draw(config, "dyadic", 1)  # at most 1
    np.savez(path, **{name: array * factor for name, array in case.weights.items()})  # type: ignore[arg-type]
    return str(path)


def test_a_port_is_right_on_small_weights_and_wrong_on_large_ones(tmp_path: Path) -> None:
    for factor, verdict in ((0.5, Verdict.AGREES), (4.0, Verdict.DISAGREES)):
        path = saved(tmp_path / "model.npz", RNNConfig(3, 2), factor)
        done = check(clips, weights=path, cases=220, quiet=True, findings=str(tmp_path / "found"))

        assert done.verdict is verdict
        assert (f", with the weights of {path}" in " ".join(str(done).split())) is (verdict is Verdict.AGREES)


@pytest.mark.parametrize("workers", [None, WorkerPool(1)])
def test_all_cases_have_the_weights_or_some_near_them(tmp_path: Path, workers: WorkerPool | None) -> None:
    weights = load_weights(saved(tmp_path / "model.npz", WIDE, 1.0))
    scope = Scope().only(**weights.pins, dtype="float64", device="cpu")

    assert {name: getattr(scope, name) for name in ("num_layers", "bidirectional", "input_size")} == {
        "num_layers": (2,),
        "bidirectional": (True,),
        "input_size": (3,),
    }
    with Search(as_subject("torch"), scope, SearchOptions(cases=40, weights=weights, workers=workers)) as search:
        assert list(search.findings()) == []
    for seed in range(4):
        case = weights.in_place(draw(WIDE.replace(dtype="float64"), "normal", seed), seed)
        for name, array in case.weights.items():
            off = np.abs(array / weights.arrays[name] - 1)
            assert off.max() <= NEAR_WEIGHTS
            assert bool(off.any()) is bool(seed % 2)


def test_a_file_that_holds_no_layer_is_refused_in_a_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", table=np.ones((2, 3)))

    for path, said in ((tmp_path / "other.npz", "no weight_ih_l0"), (tmp_path / "none.npz", "no such file")):
        with pytest.raises(UsageError, match=said) as caught:
            load_weights(str(path))
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"--weights {path}: ")
