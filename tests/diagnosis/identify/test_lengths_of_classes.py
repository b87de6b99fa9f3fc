"""Classes of two directions that are given lengths or a mask, with the mistakes that such classes have."""

from typing import Any

import pytest
import torch

from harness import RNNConfig, as_subject
from harness.diagnosis.identify.gated_layer_inquiry import identify_gated
from harness.diagnosis.identify.inquiry import departing
from harness.diagnosis.identify.model_differences import mistakes_of
from harness.diagnosis.identify.questions import Asker, CaseSizes
from harness.diagnosis.observation_cache import ObservationCache
from harness.subjects.protocol import scope_of

RUNS_ON = "runs on through the padding of a packed batch to step T"


class Masked(torch.nn.Module):
    """A GRU of two directions, whose output is zero in the padding."""

    held = True, True  # whether the state of a direction stays there
    rows = 0, 1  # the directions whose last states are side by side

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.there = torch.nn.GRUCell(input_size, hidden_size)
        self.back = torch.nn.GRUCell(input_size, hidden_size)

    def _run(self, d: int, x: Any, mask: Any) -> Any:
        cell, outputs = (self.there, self.back)[d], [x] * x.shape[1]
        h = x.new_zeros(len(x), cell.hidden_size)
        for t in reversed(range(x.shape[1])) if d else range(x.shape[1]):
            new = cell(x[:, t], h)
            h = torch.where(mask[:, t, None], new, h) if self.held[d] else new
            outputs[t] = h
        return torch.stack(outputs, 1), h

    def forward(self, x: Any, mask: Any) -> Any:
        runs = [self._run(d, x, mask) for d in (0, 1)]
        return torch.cat([run[0] for run in runs], 2) * mask[..., None], torch.cat([runs[d][1] for d in self.rows], 1)


class RunsOnUnlessMasked(Masked):
    held = False, False

    def forward(self, x: Any, mask: Any = None) -> Any:
        return super().forward(x, x.new_ones(x.shape[:2]).bool() if mask is None else mask)


def of(layer: type[torch.nn.Module], **choices: Any) -> Any:
    """Return a class with other choices."""
    return type(layer.__name__, (layer,), choices)


class Sorted(torch.nn.Module):
    """A GRU of two directions, of sequences that are sorted, and of which output and h_n are put back somehow."""

    of_output: Any = staticmethod(torch.argsort)
    of_h_n: Any = staticmethod(torch.argsort)  # what each is put back by, given the order of the sequences

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(input_size, hidden_size, batch_first=True, bidirectional=True)

    def forward(self, x: Any, lengths: Any) -> Any:
        lengths, order = lengths.sort(descending=True, stable=True)
        packed = torch.nn.utils.rnn.pack_padded_sequence(x[order], lengths.cpu(), batch_first=True)
        output, h_n = self.gru(packed)
        output, _ = torch.nn.utils.rnn.pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])
        return output[self.of_output(order)], h_n[:, self.of_h_n(order)]


def as_it_is(order: Any) -> Any:
    return order


class ReturnsLaterState(torch.nn.Module):
    """A GRU of one direction that runs on in the padding, and returns as h_n the state of a step too late."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(input_size, hidden_size, batch_first=True)

    def forward(self, x: Any, lengths: Any) -> Any:
        output, _ = self.gru(x)
        return output, output[torch.arange(len(x)), lengths.clamp(max=x.shape[1] - 1)]


LOSSES = (None, "output", "h_n", "both")
LENGTHS = (2, 4, 1)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (Masked, []),
        (of(Masked, held=(True, False)), [f"{RUNS_ON}, in the reverse direction"]),
        (of(Masked, held=(False, False)), [RUNS_ON]),
        (RunsOnUnlessMasked, [RUNS_ON]),
        (of(Masked, rows=(1, 0)), ["writes the last state of the other direction to row l * D + d of h_n"]),
        (ReturnsLaterState, ["runs min(lengths[n] + 1, T) steps of sequence n of a packed batch, not lengths[n]"]),
        (Sorted, []),
        (
            of(Sorted, of_h_n=staticmethod(lambda order: torch.arange(len(order)))),
            ["leaves h_n of a packed batch sorted, the longest sequence first"],
        ),
        (
            of(Sorted, of_output=staticmethod(as_it_is), of_h_n=staticmethod(as_it_is)),
            ["puts output and h_n of a packed batch in order by the permutation that sorts it, not by its inverse"],
        ),
    ],
)
def test_its_mistake_explains_all_it_returns_and_all_gradients(layer: Any, said: list[str]) -> None:
    subject = as_subject(layer)
    asker = Asker(ObservationCache(subject), scope_of(subject), "tanh")

    two = asker.allows("bidirectional", True)
    config = RNNConfig(2, 2, N=3, T=4, cell="GRU", batch_first=True, bidirectional=two, lengths=LENGTHS)

    found = identify_gated(asker, config)

    assert found.whole
    assert [mistake.sentence for mistake in mistakes_of(found.network, "tanh")] == said
    answers = [asker.ask(CaseSizes(4, 3, 2, 2), bidirectional=two, lengths=LENGTHS, loss=loss) for loss in LOSSES]
    assert [departing(found.network, a, asker.rounding) for a in answers if a is not None] == [set()] * len(LOSSES)
