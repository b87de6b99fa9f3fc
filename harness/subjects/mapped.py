"""mapped: a function of other conventions as one of nn.RNN's."""

from __future__ import annotations

from typing import Any


def as_nn_rnn(
    function: Any, takes: Any, *, one_bias: bool = False, transposed: bool = False, last_output_only: bool = False
) -> Any:
    """Return a function that is called as one of nn.RNN's conventions, by the names of its arguments."""

    def given_weights(weights: Any) -> Any:
        own = {}
        for name, array in weights.items():
            if one_bias and name.startswith("bias_ih"):
                own[name] = array + weights[name.replace("_ih_", "_hh_")]
            elif not (one_bias and name.startswith("bias_hh")):
                own[name] = array.T.copy() if transposed and array.ndim == 2 else array
        return own

    def returned_gradients(own: Any) -> Any:
        gradients = dict(own)
        for name, array in own.items():
            if transposed and str(name).startswith(("weight", "readout.weight")):
                gradients[name] = array.T
            elif one_bias and str(name).startswith("bias_ih"):  # the loss depends on both in the same way
                gradients[name.replace("_ih_", "_hh_")] = array
        return gradients

    def h_n_of(last: Any, config: Any) -> Any:
        if last.ndim != 1 + config.batched:
            return last
        if config.num_layers > 1:
            raise NotImplementedError("inner layers: it returns the last output, and not h_n")
        if last.shape[-1] != config.num_directions * config.hidden_size:
            return last
        last = last.reshape(*last.shape[:-1], config.num_directions, config.hidden_size)
        return last.swapaxes(0, 1) if config.batched else last

    def rnn(**given: Any) -> Any:
        weights = given["weights"]
        own = given_weights(weights)
        before = {name: array.copy() for name, array in own.items()}
        returned = function(**{name: own if name == "weights" else given[name] for name in takes})
        for name, array in before.items():  # what it writes into its weights is to be seen
            if (after := own.get(name, array)).tobytes() != array.tobytes():
                weights[name][...] = after.T if transposed and array.ndim == 2 else after
        parts = list(returned) if isinstance(returned, (tuple, list)) else [returned]
        gradients = [returned_gradients(parts.pop())] if parts and isinstance(parts[-1], dict) else []
        if last_output_only and len(parts) == 1 and hasattr(parts[0], "shape"):
            parts = [None, h_n_of(parts[0], given["config"])]
        return parts[0] if len(parts) == 1 and not gradients else (*parts, *gradients)

    return rnn
