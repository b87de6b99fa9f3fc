"""published_variants: the steps with gates that papers and frameworks have in the place of torch's, as data.

A step has the name of a variant if it makes its choices: those are compared, and no sentence is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from harness.diagnosis.identify.activations import Activation
from harness.diagnosis.identify.gates import OWN_TERMS, SIGMOID, GatedModel, GateSumTerm, complements, step_of
from harness.diagnosis.identify.mistake import SlotName
from harness.space.cells import Polynomial

Choices = Mapping[SlotName, Any]


def choices_of(model: GatedModel) -> Choices:
    """Return what a step whose rows are in torch's order chooses otherwise than torch's does."""
    right = _slots(step_of(model.cell))
    return {slot: choice for slot, choice in _slots(model).items() if choice != right[slot]}


def _slots(model: GatedModel) -> dict[SlotName, Any]:
    slots: dict[SlotName, Any] = {("memory",): {*model.memory}, ("limit",): model.limit}
    slots["mix",] = {*model.mix}, model.outer
    slots["read",] = model.read if any("t" in names for names, _ in model.mix) else step_of(model.cell).read
    for k, (letter, gate) in enumerate(model.gates):
        slots["function", letter] = gate.activation, gate.inside
        # What reads no parameter reads no block of one.
        slots["sum", letter] = {p if "_" in p.name else p._replace(block=k) for p in gate.parts}
    return slots


class PublishedVariant(NamedTuple):
    """A step of a paper or a framework, or a part of one that may stand beside other choices."""

    name: str
    model: GatedModel
    is_part: bool = False

    def is_of(self, model: GatedModel) -> bool:
        """Tell whether a step is this one, or has this part."""
        own, these = choices_of(model), choices_of(self.model).items()
        return model.cell == self.model.cell and these <= own.items() and (self.is_part or len(these) == len(own))


def variant_name(model: GatedModel, slots: Iterable[SlotName]) -> str:
    """Return the published variant that a step has by its choices at some slots and others; nothing if it is none."""
    these = {*slots}
    for variant in VARIANTS:
        every = {*choices_of(variant.model)}
        if these and these <= every and variant.is_of(model):
            return variant.name if these == every else f"part of {variant.name}"
    return ""


GRU: Final = step_of("GRU")
LSTM: Final = step_of("LSTM")
X, B_IH, H, B_HH = OWN_TERMS
HARD_2: Final = Activation("hard sigmoid", (0.2,))
HARD_3: Final = Activation("hard sigmoid", (1 / 6,))


def _with_sums(model: GatedModel, **sums: tuple[GateSumTerm, ...]) -> GatedModel:
    gates = ((name, gate._replace(parts=sums.get(name, gate.parts))) for name, gate in model.gates)
    return replace(model, gates=tuple(gates))


def _with_more(model: GatedModel, **more: GateSumTerm) -> GatedModel:
    """Return a step with another term in the sums of some gates."""
    gates = dict(model.gates)
    return _with_sums(model, **{name: (*gates[name].parts, term) for name, term in more.items()})


def _with_sigmoid(model: GatedModel, kind: Activation) -> GatedModel:
    """Return a step with another function in the place of each sigmoid."""
    return replace(
        model,
        gates=tuple(
            (name, gate._replace(activation=kind) if gate.activation == SIGMOID else gate) for name, gate in model.gates
        ),
    )


def _complemented(terms: Polynomial, gate: str, other: str) -> Polynomial:
    """Return a sum of products with 1 - another gate in the place of one."""
    return next(made for *pair, made in complements(terms, dict.fromkeys((gate, other))) if pair == [gate, other])


RESET_BEFORE: Final = _with_sums(
    GRU, n=(GateSumTerm(X, 2), GateSumTerm(B_IH, 2), GateSumTerm(H, 2, "r * h"), GateSumTerm(B_HH, 2))
)
RESET_PRODUCT: Final = _with_sums(
    GRU, n=(GateSumTerm(X, 2), GateSumTerm(B_IH, 2), GateSumTerm(H, 2, factor="r"), GateSumTerm(B_HH, 2))
)
EXCHANGED: Final = _complemented(GRU.mix, "z", "z")

# A step that is several has the name of the first. A paper's one bias is the sum of both.
VARIANTS: Final = (
    # arXiv:1406.1078v3, which is what was printed, equations 5 to 8. Its first version applies r as torch does.
    PublishedVariant(
        "the GRU of Cho et al. 2014 (Keras's reset_after=False, ONNX's linear_before_reset=0)", RESET_BEFORE
    ),
    # arXiv:1412.3555, section 3.2.
    PublishedVariant("the GRU of Chung et al. 2014", replace(RESET_BEFORE, mix=EXCHANGED)),
    # keras.layers.GRU of 2.2.4, whose recurrent_activation is hard_sigmoid, and reset_after False.
    PublishedVariant("the GRU that was Keras's default before 2.3", _with_sigmoid(RESET_BEFORE, HARD_2)),
    # lasagne.layers.GRULayer of 0.1, whose one bias of the candidate stands outside of r.
    PublishedVariant("Lasagne's GRULayer", replace(RESET_PRODUCT, mix=EXCHANGED)),
    # Gers and Schmidhuber, Recurrent nets that time and count, 2000; arXiv:1308.0850, equations 7 to 11.
    PublishedVariant(
        "the peepholes of Gers and Schmidhuber 2000 and of Graves 2013 (ONNX's P), each of weight 1",
        _with_more(LSTM, **{k: GateSumTerm("h[t-1]", 0, c) for k, c in {"i": "c", "f": "c", "o": "c'"}.items()}),
        is_part=True,
    ),
    # arXiv:1503.04069, section 3 and appendix A.
    PublishedVariant(
        "the coupled input and forget gates of Greff et al. 2017, CIFG (ONNX's input_forget=1)",
        replace(LSTM, memory=_complemented(LSTM.memory, "f", "i")),
        is_part=True,
    ),
    # tf.contrib.rnn.CoupledInputForgetGateLSTMCell: f_act * c_prev + (1 - f_act) * activation(j).
    PublishedVariant(
        "the coupled input and forget gates of TensorFlow 1's CoupledInputForgetGateLSTMCell",
        replace(LSTM, memory=_complemented(LSTM.memory, "i", "f")),
        is_part=True,
    ),
    # Jozefowicz, Zaremba and Sutskever, An empirical exploration of recurrent network architectures, 2015.
    PublishedVariant(
        "the forget bias of Jozefowicz et al. 2015 (TensorFlow 1's forget_bias=1.0)",
        _with_more(LSTM, f=GateSumTerm("1", 1)),
        is_part=True,
    ),
    *(
        PublishedVariant(name, _with_sigmoid(model, kind), is_part=True)
        for model in (GRU, LSTM)
        for name, kind in (
            ("the hard_sigmoid of Keras 2, its default before 2.3 (ONNX's HardSigmoid)", HARD_2),
            ("the hard_sigmoid of Keras 3 (torch's hardsigmoid)", HARD_3),
        )
    ),
)
