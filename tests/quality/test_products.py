"""Measurement on subjects that are wrong where a product of sizes is large: found by the default search, and named."""

from typing import Any

import numpy as np
import pytest

from harness import RNNConfig, as_subject
from harness.diagnosis.finding_explainer import FindingExplainer
from harness.report.explanation_lines import fails_line
from harness.search.search import Search
from tests import implementations
from tests.long import few


def too_many_sequences_and_steps(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    output, h_n = implementations.vectorised(x, h0, weights, config)
    return (output * output.dtype.type(1.01) if config.N * config.T > 65_535 else output), h_n


def too_many_steps_and_units(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    output, h_n = implementations.vectorised(x, h0, weights, config)
    return (output * output.dtype.type(1.01) if config.T * config.hidden_size > 65_535 else output), h_n


def counts_rows_in_16_bits(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    output, h_n = implementations.vectorised(x, h0, weights, config)
    rows = output.reshape(-1, output.shape[-1])
    written = np.zeros_like(rows)
    written[np.arange(len(rows)).astype(np.uint16)] = rows
    return written.reshape(output.shape), h_n


PLANTED = (
    (too_many_sequences_and_steps, RNNConfig(1, 1, N=65_536), "with N from 65536 on"),
    (too_many_steps_and_units, RNNConfig(1, 128, T=512), "with T from 512 on, hidden_size from 128 on"),
    (counts_rows_in_16_bits, RNNConfig(1, 1, N=65_537), "with N from 65537 on"),
)


@pytest.mark.parametrize(("function", "smallest", "fails"), few(PLANTED, lambda _one: False))
def test_a_product_of_sizes_is_found_by_the_default_search_and_named(
    function: Any, smallest: RNNConfig, fails: str
) -> None:
    subject = as_subject(function)
    with Search(subject) as search:
        investigation, finding = FindingExplainer(subject), next(search.findings())
        explanation = investigation.explain(finding, search.record.scope)

    assert finding.case.config == smallest
    assert explanation.factors is not None
    assert fails_line(explanation.factors) == fails
