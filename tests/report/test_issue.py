"""Tests of a finding as a test that keeps it from coming back."""

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness import Case, Disagreement, RNNConfig, check_agreement, draw
from harness.report.issue import regression_test
from harness.search.search_record import Finding
from harness.space.case_json import to_json
from harness.subjects.registry import find_subject
from tests.diagnosis.subjects_by_hand import FUNCTION

PLAIN = RNNConfig(2, 3, T=3, N=2)


def found(folder: Path, config: RNNConfig, distribution: str = "normal") -> Finding:
    """Return a finding of a wrong function in a file of its own, without its seed."""
    path = folder / "by_hand.py"
    path.write_text(FUNCTION)
    case = replace(draw(config, distribution), origin=None)
    return Finding(f"{path}:rnn", case, check_agreement(find_subject(f"{path}:rnn"), case, with_probes=False))


@pytest.mark.parametrize("config", [RNNConfig(5, 5, T=2, N=1, dtype="float64"), RNNConfig(33, 33, T=2, N=1)], ids=repr)
def test_a_regression_test_fails_until_it_is_mended(config: RNNConfig, tmp_path: Path) -> None:
    finding = found(tmp_path, config)
    (tmp_path / "case.json").write_text(to_json(finding.case))
    test = tmp_path / "test_finding.py"
    test.write_text(regression_test(finding))

    run = runpy.run_path(str(test))[f"test_rnn_on_{finding.id}"]

    assert test.stat().st_size < 4_000
    with pytest.raises(Disagreement):
        run()
    (tmp_path / "by_hand.py").write_text(FUNCTION.replace("WRONG = True", "WRONG = False"))
    runpy.run_path(str(test))["assert_agrees"](find_subject(finding.subject), finding.case)


def test_a_case_that_is_mostly_zeros_brings_what_it_is_written_with(tmp_path: Path) -> None:
    config = RNNConfig(1, 17)
    arrays = {name: np.zeros(spec.shape).tolist() for name, spec in {**config.inputs, **config.weights}.items()}
    mostly = replace(found(tmp_path, PLAIN), case=Case.of(config, **arrays))

    imported = next(line for line in regression_test(mostly).split("\n") if line.startswith("from harness import"))
    assert "sparse" in imported
