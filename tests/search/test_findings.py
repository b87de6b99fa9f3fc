"""findings: kept, read back, replayed."""

from pathlib import Path
from typing import Any

import pytest

from harness import RNNConfig, as_subject, check_agreement, draw, hunt
from harness.search import findings
from harness.search.findings import Fate
from harness.search.hunt import Finding
from harness.space.case import CaseError
from tests import implementations


def test_a_finding_is_kept_under_its_id_and_read_back(tmp_path: Path) -> None:
    finding = hunt(as_subject(implementations.without_b_hh)).finding
    assert finding is not None

    path = findings.save(finding, tmp_path / "new" / "folder")
    stored = findings.load(path)

    assert path.name == f"{finding.id}.npz"
    assert (stored.case.id, stored.subject) == (finding.case.id, finding.subject)


def test_two_subjects_that_fail_on_the_same_case_keep_a_finding_each(tmp_path: Path) -> None:
    case = draw(RNNConfig(1, 1))
    result = check_agreement(as_subject(implementations.without_b_hh), case)

    paths = {findings.save(Finding(name, case, result, minimal=True), tmp_path) for name in ("one", "another")}

    assert len(paths) == 2


def test_replaying_tells_fixed_failed_and_unsupported_apart() -> None:
    case = draw(RNNConfig(2, 3, T=2), "normal", 0)

    def refuses(x: Any) -> Any:
        raise NotImplementedError("never")

    fates = [
        findings.replay(as_subject(function), case)[0]
        for function in (implementations.vectorised, implementations.without_b_hh, refuses)
    ]

    assert fates == [Fate.FIXED, Fate.FAILED, Fate.UNSUPPORTED]


def test_a_subject_that_wavers_has_not_been_fixed() -> None:
    answers = iter([0.0, 0.0, 1e-9])

    def rnn(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        output, h_n = implementations.vectorised(x, h0, weights, config)
        return output + next(answers), h_n

    fate, result = findings.replay(as_subject(rnn), draw(RNNConfig(1, 1, dtype="float64"), "normal", 0))

    assert fate is Fate.FAILED
    assert "not deterministic" in result.message


def test_a_file_that_is_no_case_says_so(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="no such file"):
        findings.load(tmp_path / "none.npz")
