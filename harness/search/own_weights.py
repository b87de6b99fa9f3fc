"""own_weights: the weights of a user's model, which all cases of a search have, some of them nearly."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from harness.space.case import Array, Case
from harness.space.errors import UsageError
from harness.subjects.array_files import load_model
from harness.subjects.explain_inputs import models

NEAR_WEIGHTS: Final = 2.0**-4  # by how much of itself a weight is changed at most, in every other case


@dataclass(frozen=True, eq=False)
class OwnWeights:
    """The weights of a layer, and where they came from."""

    name: str
    arrays: Mapping[str, Array]
    pins: Mapping[str, Any]  # the factors that they determine

    def in_place(self, case: Case, seed: int) -> Case:
        """Return a case with these weights, or with some near them, as the seed says."""
        weights = {name: self.arrays[name] for name in case.config.weights}
        if seed % 2:
            rng = np.random.default_rng(seed)
            weights = {
                name: array * (1 + rng.uniform(-NEAR_WEIGHTS, NEAR_WEIGHTS, array.shape))
                for name, array in weights.items()
            }
        cast = {name: array.astype(case.config.dtype) for name, array in weights.items()}
        return Case.from_arrays(case.config, {**case.arrays, **cast})


def load_weights(path: str) -> OwnWeights:
    """Load the weights of one layer, and of a linear layer after it. Raise ``UsageError`` in one line otherwise."""
    try:
        layers = models(load_model(path))
    except UsageError as error:
        raise UsageError(f"--weights {path}: {str(error).removeprefix(f'{path}: ')}") from None
    if len(layers) > 1:
        raise UsageError(f"--weights {path}: its square matrices may be transposed or not: name them as nn.RNN does")
    (model,), names = layers, ("input_size", "hidden_size", "num_layers", "bias", "bidirectional", "proj_size", "cell")
    pins = {name: (getattr(model.config, name),) for name in (*names, "output_size")}
    return OwnWeights(path, {name: np.asarray(array, np.float64) for name, array in model.weights.items()}, pins)
