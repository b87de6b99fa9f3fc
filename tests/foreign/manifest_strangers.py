"""The manifest of the strangers' implementations: which are correct, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from harness.space.config import RNNConfig
from tests.foreign import strangers_back, strangers_node, strangers_numpy, strangers_torch
from tests.foreign.manifest import _least

Predicate = Callable[[RNNConfig], bool]


@dataclass(frozen=True)
class Mistake:
    """One mistake of an implementation.

    ``words`` are parts of sentences that identify the right cause in a report; any one suffices, in upper or lower
    case. ``shows`` says on which configs the mistake can be seen: on all of them with generic numbers, unless
    ``rarely``. ``mend`` replaces parts of the source; afterwards the mistake is gone and nothing else has changed.
    ``smallest`` is as in ``manifest.Wrong``. ``how`` says what is wrong: the ``values`` (or shapes, or an error), the
    ``inputs``, which were written into, or ``later``, the results if there were other calls before or after.
    """

    family: str
    truth: str
    words: tuple[str, ...]
    shows: Predicate
    mend: tuple[tuple[str, str], ...]
    smallest: Mapping[str, Any] = field(default_factory=dict)
    how: str = "values"
    rarely: bool = False


@dataclass(frozen=True)
class Stranger:
    """An implementation; it is correct if it has no mistakes.

    ``refuses`` says which configs it refuses. ``scope`` is what its author would leave out with ``--only``,
    ``contract`` the contract its author would choose, and ``partial`` the gradients that it does not return.
    """

    name: str
    subject: Callable[..., Any]
    refuses: Predicate
    mistakes: tuple[Mistake, ...] = ()
    scope: Mapping[str, Any] = field(default_factory=dict)
    contract: str | None = None
    partial: tuple[str, ...] = ()

    @property
    def spec(self) -> str:
        """The name under which the command checks it."""
        return f"{self.subject.__module__.replace('.', '/')}.py:{self.subject.__qualname__}"


# Common properties of configs.


def never(_config: RNNConfig) -> bool:
    return False


def always(_config: RNNConfig) -> bool:
    return True


def deep(config: RNNConfig) -> bool:
    return config.num_layers > 1


def two_ways(config: RNNConfig) -> bool:
    return config.bidirectional


def one_way(config: RNNConfig) -> bool:
    return not config.bidirectional


def batch_first(config: RNNConfig) -> bool:
    return config.batch_first


def time_first(config: RNNConfig) -> bool:
    return not config.batch_first


def tanh(config: RNNConfig) -> bool:
    return config.nonlinearity == "tanh"


def relu(config: RNNConfig) -> bool:
    return config.nonlinearity == "relu"


def biased(config: RNNConfig) -> bool:
    return config.bias


def unbiased(config: RNNConfig) -> bool:
    return not config.bias


def given(config: RNNConfig) -> bool:
    return config.hx


def several_steps(config: RNNConfig) -> bool:
    return config.T > 1


def several_sequences(config: RNNConfig) -> bool:
    return config.N > 1


def empty(config: RNNConfig) -> bool:
    return config.N == 0


def several_units(config: RNNConfig) -> bool:
    return config.hidden_size > 1


def recurs(config: RNNConfig) -> bool:
    """Return whether some step reads a state that is not zero."""
    return config.T > 1 or config.hx


def double(config: RNNConfig) -> bool:
    return config.dtype == "float64"


def single(config: RNNConfig) -> bool:
    return config.dtype == "float32"


def drops(config: RNNConfig) -> bool:
    return config.drops


def loss(config: RNNConfig) -> bool:
    return config.loss is not None


def loss_of_h_n(config: RNNConfig) -> bool:
    return config.loss in {"h_n", "both"}


def both(*predicates: Predicate) -> Predicate:
    """Return whether all predicates hold."""
    return lambda config: all(predicate(config) for predicate in predicates)


def any_of(*predicates: Predicate) -> Predicate:
    """Return whether at least one predicate holds."""
    return lambda config: any(predicate(config) for predicate in predicates)


_ONE: Final = any_of(deep, two_ways)
"""The predicate of an implementation that supports one layer and one direction only."""


# Correct.

_numpy, _back, _torch, _node = strangers_numpy, strangers_back, strangers_torch, strangers_node

RIGHT_STRANGERS: Final = (
    Stranger("column_vectors", _numpy.column_vectors, _ONE),
    Stranger("mini_library", _numpy.mini_library, never),
    Stranger("many_to_one", _numpy.many_to_one, _ONE),
    Stranger("one_hot_lookup", _numpy.one_hot_lookup, _ONE),
    Stranger("einsums", _numpy.einsums, never),
    Stranger("unit_by_unit", _numpy.unit_by_unit, any_of(_ONE, relu)),
    Stranger("stacked", _numpy.stacked, two_ways),
    Stranger("reduced", _numpy.reduced, two_ways),
    Stranger("generators", _numpy.generators, two_ways),
    Stranger("pytree", _numpy.pytree, never),
    Stranger(
        "blog_rnn, left to what it does",
        _numpy.blog_rnn,
        never,
        scope={"num_layers": 1, "nonlinearity": "tanh", "bias": True, "batch_first": True, "bidirectional": False},
    ),
    Stranger("bptt", _back.bptt, any_of(_ONE, relu)),
    Stranger("vanilla", _back.vanilla, _ONE),
    Stranger("weights_only", _back.weights_only, any_of(_ONE, time_first)),
    Stranger("double_only", _back.double_only, any_of(_ONE, batch_first, relu, both(loss, single))),
    Stranger("columns_back", _back.columns_back, any_of(_ONE, relu)),
    Stranger("deep", _back.deep, two_ways),
    Stranger("both_ways", _back.both_ways, never),
    Stranger("no_gradient_of_hx", _back.no_gradient_of_hx, any_of(_ONE, batch_first, relu), partial=("hx.grad",)),
    Stranger("functional", _torch.functional, never),
    Stranger("addmm", _torch.addmm, any_of(_ONE, unbiased)),
    Stranger("projected", _torch.projected, any_of(_ONE, time_first)),
    Stranger("custom_function", _torch.custom_function, any_of(_ONE, relu, unbiased)),
    Stranger("cells", _torch.cells, two_ways),
    Stranger("MyRNN", _torch.MyRNN, drops),
    Stranger("node", _node.node, _ONE),
)


# Wrong, forward.


def _wrong(
    subject: Callable[..., Any],
    refuses: Predicate,
    *mistakes: Mistake,
    scope: Mapping[str, Any] | None = None,
    contract: str | None = None,
) -> Stranger:
    return Stranger(subject.__qualname__, subject, refuses, mistakes, scope or {}, contract)


WRONG_FORWARD: Final = (
    _wrong(
        _numpy.min_char,
        any_of(_ONE, relu),
        Mistake(
            "bias",
            "b_hh is never added.",
            ("ignores bias_hh", "b_hh is never added"),
            biased,
            (
                (
                    'bh = weights["bias_ih_l0"][:, None] if config.bias else 0',
                    'bh = (weights["bias_ih_l0"] + weights["bias_hh_l0"])[:, None] if config.bias else 0',
                ),
            ),
            _least(bias=True),
        ),
    ),
    _wrong(
        _numpy.column_states,
        _ONE,
        Mistake(
            "time",
            "h_n is the state before the last one.",
            (
                "h_n one step early",
                "h_n before the last",
                "state before the last",
                "last but one",
                "h_n of the step before",
            ),
            always,
            (("history[len(x) - 1].T[None]", "history[len(x)].T[None]"),),
            _least(),
        ),
    ),
    _wrong(
        _numpy.notebook,
        any_of(_ONE, time_first),
        Mistake(
            "weights",
            "W_hh is not transposed: h @ W_hh.",
            ("transposes weight_hh", "transpose of weight_hh", "weight_hh transposed", "computes h @ W_hh where"),
            both(several_units, recurs),
            (('W_hh = weights["weight_hh_l0"]', 'W_hh = weights["weight_hh_l0"].T'),),
            _least("T", hidden_size=2),
        ),
    ),
    _wrong(
        _numpy.homework,
        any_of(_ONE, time_first, unbiased),
        Mistake(
            "bias",
            "b_hh is added twice.",
            ("adds bias_hh twice", "b_hh twice", "bias_hh is added twice"),
            always,
            ((' + b + weights["bias_hh_l0"]))', " + b))"),),
            _least(),
        ),
    ),
    _wrong(
        _numpy.last_is_logits,
        any_of(_ONE, relu),
        Mistake(
            "nonlinearity",
            "The last step has no tanh.",
            ("the last step", "last time step"),
            always,
            (("h = xs[-1] @ W + h @ U + b", "h = np.tanh(xs[-1] @ W + h @ U + b)"),),
            _least(),
        ),
    ),
    _wrong(
        _numpy.blog_rnn,
        never,
        Mistake(
            "conditional",
            "It is one biased tanh layer, batch first, whatever the config says, and refuses nothing.",
            ("relu", "batch_first", "first layer", "reverse", "bias_ih", "KeyError", "num_layers", "bidirectional"),
            lambda c: deep(c) or two_ways(c) or relu(c) or unbiased(c) or (time_first(c) and (c.T > 1 or c.N != 1)),
            (),
        ),
    ),
    _wrong(
        _numpy.blog_rnn_anyway,
        never,
        Mistake(
            "layers",
            "It computes the first layer in the forward direction alone, and refuses nothing.",
            ("first layer", "only layer", "num_layers", "reverse direction", "bidirectional", "shape"),
            _ONE,
            (),
        ),
    ),
    _wrong(
        _numpy.stack_of_names,
        two_ways,
        Mistake(
            "nonlinearity",
            "In a stack, the last layer is tanh, whatever the others are.",
            (
                "tanh in the last layer",
                "tanh, in the last layer",
                "tanh instead of relu",
                "ignores nonlinearity",
                "tanh for relu",
            ),
            both(deep, relu),
            (('self.names[-1] = "tanh"', "pass"),),
            _least(num_layers=2, nonlinearity="relu"),
        ),
    ),
    _wrong(
        _numpy.with_skips,
        two_ways,
        Mistake(
            "layers",
            "Every layer above the first adds its input to its output, as a residual connection.",
            ("residual", "adds its input", "adds the input", "adds each layer's input", "skip connection"),
            deep,
            (("out = out + seq", "pass"),),
            _least(num_layers=2),
        ),
    ),
    _wrong(
        _numpy.shared_biases,
        two_ways,
        Mistake(
            "bias",
            "Every layer adds the first layer's biases.",
            ("first layer's biases", "biases of the first layer", "biases of layer 0", "layer 0's bias"),
            both(deep, biased),
            (('weights["bias_ih_l0"] + weights["bias_hh_l0"]', 'weights[f"bias_ih_l{k}"] + weights[f"bias_hh_l{k}"]'),),
            _least(num_layers=2, bias=True),
        ),
    ),
    _wrong(
        _numpy.running_state,
        two_ways,
        Mistake(
            "state",
            "Every layer above the first starts at the last state of the layer below.",
            ("layer below", "final state of the", "carries the state", "last state of", "h_n of the layer"),
            deep,
            (
                (
                    "    for layer in range(config.num_layers):\n",
                    "    for layer in range(config.num_layers):\n        h = h0[layer]\n",
                ),
            ),
            _least(num_layers=2),
        ),
    ),
    _wrong(
        _numpy.one_initial_state,
        two_ways,
        Mistake(
            "state",
            "Every layer starts at the first layer's initial state.",
            (
                "first layer's initial state",
                "first layer's hx",
                "first layer's rows of hx",
                "hx of the first layer",
                "hx[0]",
                "initial state of the first layer",
            ),
            both(deep, given),
            (("h, out = start, []", "h, out = h0[layer], []"),),
            _least(num_layers=2, hx=True),
        ),
    ),
    _wrong(
        _numpy.reads_x,
        any_of(two_ways, both(deep, lambda c: c.input_size != c.hidden_size)),
        Mistake(
            "layers",
            "Every layer reads x, not the output of the layer below.",
            ("reads x", "input of the first layer", "feeds x", "x to every layer", "x into every layer"),
            deep,
            (
                ("for inp in x:", "for inp in below:"),
                ("    h_n = []\n", "    h_n, outputs = [], x\n"),
                ("outputs, h = [], h0[layer]", "below, outputs, h = outputs, [], h0[layer]"),
            ),
            _least(num_layers=2),
        ),
    ),
    _wrong(
        _numpy.state_first,
        _ONE,
        Mistake(
            "layout",
            "It returns (h_n, output).",
            ("swaps output and h_n", "(h_n, output)", "h_n and output", "h_n before output", "shape"),
            lambda c: c.T > 1 or (c.batch_first and c.N != 1),
            (("return h[None], output", "return output, h[None]"),),
            _least("N", "T"),
        ),
    ),
    _wrong(
        _numpy.indented,
        any_of(_ONE, batch_first),
        Mistake(
            "time",
            "It returns after the first step.",
            ("first step", "only one step", "one step only"),
            several_steps,
            (("        return y, h[None]", "    return y, h[None]"),),
            _least(T=2),
        ),
    ),
    _wrong(
        _numpy.squeezed,
        any_of(_ONE, batch_first),
        Mistake(
            "size",
            "Axes of size 1 are squeezed away from output.",
            ("squeeze", "axes of size 1", "shape"),
            lambda c: 1 in {c.T, c.N, c.hidden_size},
            ((".squeeze()", ".squeeze(1)"),),
            _least("T", "N", "hidden_size"),
        ),
    ),
    _wrong(
        _numpy.without_layer_axis,
        any_of(_ONE, relu),
        Mistake(
            "layout",
            "h_n has no axis for the layers.",
            ("h_n: shape", "h_n of shape", "h_n has shape", "h_n has the shape", "shape"),
            always,
            (("axis=1 if config.batch_first else 0), h\n", "axis=1 if config.batch_first else 0), h[None]\n"),),
            _least(),
        ),
    ),
    _wrong(
        _numpy.all_batch_first,
        _ONE,
        Mistake(
            "layout",
            "With batch_first, h_n is batch first, too.",
            ("h_n batch first", "h_n with the batch", "shape", "batch_first to h_n"),
            lambda c: c.batch_first and c.N != 1,
            (("y.swapaxes(0, 1), h_n.swapaxes(0, 1)", "y.swapaxes(0, 1), h_n"),),
            _least("N", batch_first=True),
        ),
    ),
    _wrong(
        _numpy.doubles,
        any_of(_ONE, batch_first),
        Mistake(
            "layout",
            "output is float64 whatever x is.",
            ("dtype", "float64"),
            single,
            (("np.zeros((T, N, config.hidden_size))", "np.zeros((T, N, config.hidden_size), x.dtype)"),),
            _least(dtype="float32"),
        ),
    ),
    _wrong(
        _numpy.single_buffer,
        _ONE,
        Mistake(
            "rounding",
            "In a float64 run, output is rounded to float32.",
            ("precision", "significant bits", "float32"),
            double,
            (("dtype=np.float32", "dtype=x.dtype"),),
            _least(dtype="float64"),
        ),
    ),
    _wrong(
        _numpy.sentiment,
        any_of(_ONE, relu),
        Mistake(
            "time",
            "output is zero but for the last step.",
            ("last step", "last time step"),
            several_steps,
            (
                ("    for x_t in x:\n", "    for t, x_t in enumerate(x):\n"),
                ("    output[-1] = h\n", ""),
                ("        h = np.tanh(", "        output[t] = h = np.tanh("),
            ),
            _least(T=2),
        ),
    ),
    _wrong(
        _numpy.sixteen_units,
        any_of(_ONE, batch_first),
        Mistake(
            "size",
            "The number of units, 16, is written into it: with another it raises, or output has another shape.",
            ("reshape", "hidden_size=16", "shape"),
            lambda c: c.hidden_size != 16,
            (("h.reshape(-1, 16)", "h"),),
            _least(),
        ),
    ),
    _wrong(
        _numpy.blocks_of_16,
        _ONE,
        Mistake(
            "size",
            "Beyond 16 units, the recurrent sum drops those after the first 16.",
            ("first 16 states", "first 16", "units after the first 16", "blocks of 16"),
            both(lambda c: c.hidden_size > 16, recurs),
            (("h[:, :16] @ U[:, :16].T", "h @ U.T"),),
            _least("T", hidden_size=17),
        ),
    ),
    _wrong(
        _numpy.by_shape,
        _ONE,
        Mistake(
            "weights",
            "With input_size equal to hidden_size, W_ih and W_hh are swapped.",
            ("swaps weight_ih and weight_hh", "weight_ih and weight_hh", "weight_hh for weight_ih"),
            lambda c: c.input_size == c.hidden_size,
            (
                ("next(w for w in matrices if w.shape[0] == w.shape[1])", "matrices[1]"),
                ("(inward,) = (w for w in matrices if w is not recurrent)", "inward = matrices[0]"),
            ),
            _least(),
        ),
    ),
    _wrong(
        _numpy.short_memory,
        _ONE,
        Mistake(
            "conditional",
            "From T=5 on, the steps before the last four show the first state that is left.",
            ("last 4", "last four", "T - 4", "from 5 on"),
            lambda c: c.T >= 5,
            (("maxlen=4", "maxlen=None"),),
            _least(T=5),
        ),
    ),
    _wrong(
        _numpy.first_of_batch,
        any_of(_ONE, relu),
        Mistake(
            "conditional",
            "All sequences start at the initial state of the first one.",
            ("first sequence", "hx of sequence 0", "hx[:, 0]"),
            both(several_sequences, given),
            (("h0[0, :1]", "h0[0]"),),
            _least(N=2, hx=True),
        ),
    ),
    _wrong(
        _numpy.object_with_state,
        any_of(_ONE, relu),
        Mistake(
            "state",
            "Without hx, it starts at the state that the call before ended with, if that has the same shape.",
            ("not deterministic", "earlier call", "call before", "previous call"),
            lambda c: not c.hx and c.N > 0,
            (("if config.hx or _net.h is None or _net.h.shape != h0[0].shape:", "if True:"),),
            _least(hx=False),
            how="later",
        ),
    ),
    _wrong(
        _numpy.in_place,
        _ONE,
        Mistake(
            "state",
            "The caller's hx is written over.",
            ("changed hx", "writes into hx", "hx was changed", "overwrites hx", "hx is changed", "modifies hx", "hx"),
            given,
            (("h = h0[0]\n", "h = h0[0].copy()\n"),),
            _least(hx=True),
            how="inputs",
        ),
    ),
    _wrong(
        _numpy.state_at_zero,
        _ONE,
        Mistake(
            "conditional",
            "If hx is given, it is returned as the first output, and the last step is not returned.",
            ("one step late", "starts with hx", "hx as the first", "shifted", "state before"),
            given,
            (("states[: config.T] if config.hx else states[1:]", "states[1:]"),),
            _least(hx=True),
        ),
    ),
    _wrong(
        _numpy.from_nothing,
        two_ways,
        Mistake(
            "state",
            "hx is ignored.",
            ("ignores hx",),
            given,
            (
                ("from_nothing(x, weights, config)", "from_nothing(x, h0, weights, config)"),
                ("np.zeros((steps.shape[1], config.hidden_size), x.dtype)", "h0[layer]"),
            ),
            _least(hx=True),
        ),
    ),
    _wrong(
        _numpy.flips_batches,
        never,
        Mistake(
            "directions",
            "The reverse direction reads the batch from its end, and time from its beginning.",
            (
                "reverses the batch",
                "batch in place of time",
                "batch instead of time",
                "flips the batch",
                "does not reverse",
            ),
            lambda c: c.bidirectional and (c.T > 1 or c.N > 1),
            (("seq[::-1]", "seq[:, ::-1]"), ("back[::-1]", "back[:, ::-1]")),
            _least("T", "N", bidirectional=True),
        ),
    ),
    _wrong(
        _numpy.scanning,
        never,
        Mistake(
            "directions",
            "The reverse direction's output stays in the order in which it was computed.",
            (
                "flipped back",
                "flip back",
                "order in which",
                "not reversed back",
                "does not turn",
                "in the order",
                "flips",
            ),
            both(two_ways, several_steps),
            (("zip(ys, back)", "zip(ys, back[::-1])"),),
            _least(T=2, bidirectional=True),
        ),
    ),
    _wrong(
        _numpy.joined_in_time,
        deep,
        Mistake(
            "directions",
            "The directions are concatenated along time, not along the features.",
            ("along time", "concatenat", "shape"),
            two_ways,
            (("axis=0), np.stack([h_n[0], last])", "axis=2), np.stack([h_n[0], last])"),),
            _least(bidirectional=True),
        ),
    ),
    _wrong(
        _numpy.typo_in_reverse,
        any_of(deep, one_way),
        Mistake(
            "directions",
            "The reverse direction computes with the forward direction's W_hh.",
            (
                "forward direction's weight_hh",
                "forward weight_hh",
                "weight_hh_l0 in the reverse",
                "forward direction's",
            ),
            recurs,
            (("h = f(x[t] @ wb.T + h @ uf.T + bb)", "h = f(x[t] @ wb.T + h @ ub.T + bb)"),),
            _least("T", bidirectional=True),
        ),
    ),
    _wrong(
        _numpy.leaky,
        _ONE,
        Mistake(
            "nonlinearity",
            "relu is leaky, with a slope of 0.01 below zero.",
            ("leaky",),
            relu,
            (("np.where(s >= 0, s, s * s.dtype.type(0.01))", "np.maximum(s, 0)"),),
            _least(nonlinearity="relu"),
        ),
    ),
    _wrong(
        _numpy.masked,
        _ONE,
        Mistake(
            "rare",
            "relu of minus infinity is NaN, for it is s * (s > 0).",
            ("infinit", "nan", "overflow"),
            relu,
            (("else lambda s: s * (s > 0)", "else lambda s: np.maximum(s, 0)"),),
            _least(nonlinearity="relu"),
            rarely=True,
        ),
        contract="kernel",
    ),
    _wrong(
        _numpy.microcontroller,
        _ONE,
        Mistake(
            "nonlinearity",
            "tanh is a quotient of polynomials, of which the argument is cut at 3 and -3.",
            ("its activation is off", "approximat", "rational", "clip"),
            tanh,
            (("f = _tanh if", "f = np.tanh if"),),
            _least(nonlinearity="tanh"),
        ),
    ),
    _wrong(
        _numpy.elman_1990,
        any_of(_ONE, relu),
        Mistake(
            "nonlinearity",
            "The nonlinearity is the logistic function.",
            ("sigmoid", "logistic"),
            always,
            (("1 / (1 + np.exp(-net))", "np.tanh(net)"),),
            _least(),
        ),
    ),
    _wrong(
        _numpy.unit_sums,
        _ONE,
        Mistake(
            "size",
            "The recurrent sum leaves out the last unit.",
            ("last unit", "last state", "last column", "but the last", "hidden_size - 1"),
            recurs,
            (("prev[:, 0 : H - 1] @ u[j, 0 : H - 1]", "prev @ u[j]"),),
            _least("T"),
        ),
    ),
    _wrong(
        _numpy.stacked_too,
        _ONE,
        Mistake(
            "weights",
            "[h, x] is multiplied by [W_ih, W_hh], in the other order.",
            ("[h, x]", "swaps weight_ih and weight_hh", "weight_ih and weight_hh", "other order"),
            always,
            (("np.concatenate((h, x_t), axis=1)", "np.concatenate((x_t, h), axis=1)"),),
            _least(),
        ),
    ),
    _wrong(
        _numpy.late_night,
        _ONE,
        Mistake(
            "bias",
            "b_hh is never added.",
            ("ignores bias_hh", "b_hh is never added"),
            biased,
            (('b = weights["bias_ih_l0"] if', 'b = weights["bias_ih_l0"] + weights["bias_hh_l0"] if'),),
            _least(bias=True),
        ),
        Mistake(
            "time",
            "h_n is the state after the first step.",
            (
                "h_n at the step that is visited first",
                "h_n at the first",
                "h_n after the first",
                "first step's state",
                "first time step",
            ),
            several_steps,
            (("ys[0][None]", "ys[-1][None]"),),
            _least(T=2),
        ),
    ),
    _wrong(
        _numpy.zeros_and_rows,
        _ONE,
        Mistake(
            "state",
            "hx is ignored.",
            ("ignores hx",),
            given,
            (
                ("zeros_and_rows(x, weights, config)", "zeros_and_rows(x, h0, weights, config)"),
                ("h = np.zeros((config.N, config.hidden_size), x.dtype)", "h = h0[0]"),
            ),
            _least(hx=True),
        ),
        Mistake(
            "weights",
            "W_hh is not transposed: h @ W_hh.",
            ("transposes weight_hh", "transpose of weight_hh", "computes h @ W_hh where"),
            both(several_units, recurs),
            (('h @ weights["weight_hh_l0"] + b', 'h @ weights["weight_hh_l0"].T + b'),),
            _least("T", hidden_size=2),
        ),
    ),
    _wrong(
        _numpy.recycled,
        _ONE,
        Mistake(
            "layout",
            "output is a buffer that the next call of the same shape overwrites.",
            ("overwrit", "buffer", "next call", "later call"),
            lambda c: c.N > 0,
            (("_BUFFERS.setdefault(key, np.empty(key[:3], x.dtype))", "np.empty(key[:3], x.dtype)"),),
            _least(),
            how="later",
        ),
    ),
)


# Wrong in the backward pass.

_GRADED: Final = _least("T", "N")


WRONG_BACK: Final = (
    _wrong(
        _back.gist,
        any_of(_ONE, batch_first, relu, unbiased),
        Mistake(
            "gradients",
            "The gradients by weights and biases are clipped by value, to 1 and -1.",
            ("clips", "clipped", "clamp"),
            loss,
            (("np.clip(dparam, -1, 1, out=dparam)", "pass"),),
            _GRADED,
            rarely=True,
        ),
    ),
    _wrong(
        _back.few_steps,
        _ONE,
        Mistake(
            "gradients",
            "Backpropagation ends five steps before the end.",
            ("truncate", "last 5", "5 steps", "five steps", "cut"),
            both(loss, lambda c: c.T > 5),
            (("list(super().steps())[:5]", "list(super().steps())"),),
            _least(T=6),
        ),
    ),
    _wrong(
        _back.chunked,
        _ONE,
        Mistake(
            "gradients",
            "No gradient flows through the state between chunks of four steps.",
            ("every 4 steps", "every four", "chunks of 4", "detaches"),
            both(loss, lambda c: c.T > 4),
            (("if t % k == 0 and t > 0:", "if False:"),),
            _least(T=5),
        ),
    ),
    _wrong(
        _back.assigned,
        _ONE,
        Mistake(
            "gradients",
            "The gradient by W_hh is that of the first step alone: it is assigned in the loop, not added.",
            ("first step", "first time step", "assign", "of one step", "last one computed"),
            both(loss, several_steps),
            (
                (
                    "        self.dWx = np.zeros_like(self.Wx)\n",
                    "        self.dWx, self.dWh = np.zeros_like(self.Wx), np.zeros_like(self.Wh)\n",
                ),
                ("self.dWh = da.T @ self.h[t]", "self.dWh += da.T @ self.h[t]"),
            ),
            _least(T=2),
        ),
    ),
    _wrong(
        _back.next_states,
        _ONE,
        Mistake(
            "gradients",
            "The gradient by W_hh takes the state after each step, not the one before.",
            ("h_t in weight_hh's gradient", "state after", "new state", "h_t instead", "states after", "own state"),
            loss,
            (("np.stack(self.da), h[1:])", "np.stack(self.da), h[:-1])"),),
            _least(),
        ),
    ),
    _wrong(
        _back.single_accumulators,
        _ONE,
        Mistake(
            "rounding",
            "In a float64 run, the gradients by W_ih and W_hh are summed in float32.",
            ("float32", "significant bits", "precision", "rounds"),
            both(loss, double),
            (
                (
                    'np.zeros(self.Wx.shape, "f4"), np.zeros(self.Wh.shape, "f4")',
                    "np.zeros_like(self.Wx), np.zeros_like(self.Wh)",
                ),
            ),
            _least(dtype="float64"),
        ),
    ),
    _wrong(
        _back.averaged,
        _ONE,
        Mistake(
            "gradients",
            "The gradients by weights and biases, but not by x and hx, are divided by N.",
            ("averages", "divided by n", "divides", "mean over", "over the batch"),
            both(loss, several_sequences),
            (("self.dWx / n, self.dWh / n, self.db / n", "self.dWx, self.dWh, self.db"),),
            _least("N"),
        ),
    ),
    _wrong(
        _back.safe_norm,
        _ONE,
        Mistake(
            "gradients",
            "The gradients by weights and biases are scaled down to a norm of 1.",
            ("norm", "scales", "clips"),
            loss,
            (("if norm > 1:", "if False:"),),
            _GRADED,
            rarely=True,
        ),
    ),
    _wrong(
        _back.with_transpose,
        any_of(_ONE, batch_first),
        Mistake(
            "gradients",
            "On the way back, the gradient is multiplied by the transpose of W_hh.",
            ("transpose",),
            both(loss, several_units, recurs),
            (("dh = da[t] @ U.T", "dh = da[t] @ U"),),
            _least("T", hidden_size=2),
        ),
    ),
    _wrong(
        _back.final_error,
        any_of(_ONE, relu),
        Mistake(
            "gradients",
            "The gradient by W_ih is that of the last step alone.",
            ("last step", "last time step"),
            both(loss, several_steps),
            (("deltas[-1].T @ x[-1]", "np.tensordot(deltas, x, axes=([0, 1], [0, 1]))"),),
            _least(T=2),
        ),
    ),
    _wrong(
        _back.straight_through,
        any_of(_ONE, batch_first, relu),
        Mistake(
            "gradients",
            "tanh' is missing at all steps but the last.",
            ("derivative", "tanh'", "slope", "phi'"),
            both(loss, several_steps),
            (("if t == last:", "if True:"),),
            _least(T=2),
        ),
    ),
    _wrong(
        _back.preactivations,
        any_of(_ONE, batch_first, relu),
        Mistake(
            "gradients",
            "tanh' is taken to be 1 - s**2 of the preactivation s.",
            ("preactivation", "1 - s", "argument", "before the nonlinearity"),
            loss,
            (("(1 - a[t] ** 2)", "(1 - h[t + 1] ** 2)"),),
            _least(),
        ),
    ),
    _wrong(
        _back.step_function,
        any_of(_ONE, batch_first),
        Mistake(
            "gradients",
            "relu' is 1 at 0.",
            ("slope of relu where the state is zero", "at 0", "at zero", "relu'(0)"),
            both(loss, relu),
            (("np.where(s[t] < 0, 0, 1)", "np.where(s[t] <= 0, 0, 1)"),),
            _least(nonlinearity="relu"),
            rarely=True,
        ),
    ),
    _wrong(
        _back.initial_error,
        any_of(_ONE, relu),
        Mistake(
            "gradients",
            "The gradient by hx lacks the last product with W_hh.",
            ("hx",),
            both(loss, given),
            (('grads["hx"] = da[:1]', 'grads["hx"] = (da[0] @ U)[None]'),),
            _least(hx=True),
        ),
    ),
    _wrong(
        _back.skips_the_first,
        any_of(_ONE, relu),
        Mistake(
            "gradients",
            "The gradient by W_hh leaves out the first step, which reads hx.",
            ("first step", "hx", "initial state"),
            both(loss, given),
            (
                (
                    "        if t > 0:\n            dU += ds[t].T @ before\n",
                    "        dU += ds[t].T @ before\n        if t > 0:\n",
                ),
            ),
            _least(hx=True),
        ),
    ),
    _wrong(
        _back.first_sequence_bias,
        any_of(_ONE, batch_first, relu, unbiased, empty),
        Mistake(
            "gradients",
            "The gradients by the biases are those of the first sequence alone.",
            ("first sequence", "sequence 0", "over the batch"),
            both(loss, several_sequences),
            (("db + ds[0]", "db + ds.sum(0)"),),
            _least(N=2),
        ),
    ),
    _wrong(
        _back.frozen_bias,
        any_of(_ONE, batch_first),
        Mistake(
            "gradients",
            "The gradient by b_hh is zero.",
            ("bias_hh", "b_hh"),
            both(loss, biased),
            (("np.zeros_like(flat.sum(0))", "flat.sum(0)"),),
            _least(bias=True),
        ),
    ),
    _wrong(
        _back.one_mean,
        any_of(_ONE, batch_first, relu, unbiased, empty),
        Mistake(
            "gradients",
            "The gradient by b_hh, and no other, is a mean over the batch.",
            ("averages", "mean over", "divide", "over the batch"),
            both(loss, several_sequences),
            (("delta.sum(axis=0).mean(axis=0)", "delta.sum(axis=0).sum(axis=0)"),),
            _least(N=2, bias=True),
        ),
    ),
    _wrong(
        _back.tiles_back,
        any_of(_ONE, batch_first),
        Mistake(
            "conditional",
            "Beyond 16 units, the gradient by W_hh is zero outside the blocks of 16 by 16 on the diagonal.",
            ("blocks of 16",),
            both(loss, recurs, lambda c: c.hidden_size > 16),
            (
                ("for k in range(0, H, 16):", "for k in range(0):"),
                ("dU = np.zeros_like(U)", 'dU = np.einsum("tnj,tnk->jk", ds, before)'),
            ),
            _least("T", hidden_size=17),
        ),
    ),
    _wrong(
        _back.ignores_final,
        any_of(_ONE, batch_first, relu),
        Mistake(
            "gradients",
            "The gradient of the loss by h_n is ignored.",
            ("h_n",),
            loss_of_h_n,
            (("    dh = np.zeros_like(h0[0])\n", '    dh = cotangents.get("h_n.grad", np.zeros_like(h0))[0]\n'),),
            _least(),
        ),
    ),
    _wrong(
        _back.accumulating,
        any_of(_ONE, batch_first, relu),
        Mistake(
            "gradients",
            "Gradients are added to those of earlier calls of the same sizes.",
            ("not deterministic", "earlier call", "accumulat"),
            both(loss, lambda c: c.N > 0),
            (
                (
                    "_GRADS.setdefault(key, [np.zeros_like(W), np.zeros_like(U), np.zeros_like(b)])",
                    "[np.zeros_like(W), np.zeros_like(U), np.zeros_like(b)]",
                ),
            ),
            _least(),
            how="later",
        ),
    ),
    _wrong(
        _back.time_first_gradient,
        any_of(_ONE, relu),
        Mistake(
            "layout",
            "With batch_first, the gradient by x is time first.",
            ("x.grad: shape", "time first", "shape", "x's gradient", "batch_first"),
            both(loss, batch_first, lambda c: (c.T != c.N) or c.T > 1),
            (
                (
                    'grads = {"x": dx, "weight',
                    'grads = {"x": dx.transpose(1, 0, 2) if config.batch_first else dx, "weight',
                ),
            ),
            _least("T", "N", batch_first=True),
        ),
    ),
    _wrong(
        _back.two_slips_back,
        any_of(_ONE, batch_first, relu, unbiased),
        Mistake(
            "gradients",
            "tanh' is taken at the state before each step, not at the one after.",
            ("state before", "previous state", "h_{t-1}", "earlier state", "old state"),
            loss,
            (("(1 - hs[t] ** 2)", "(1 - hs[t + 1] ** 2)"),),
            _least(),
        ),
        Mistake(
            "gradients",
            "The gradient by b_hh is doubled.",
            ("bias_hh", "b_hh", "doubles", "twice"),
            loss,
            (("2 * da.sum((0, 1))", "da.sum((0, 1))"),),
            _least(),
        ),
    ),
    _wrong(
        _back.deep_final,
        any_of(two_ways, batch_first),
        Mistake(
            "gradients",
            "The gradient of the loss by h_n is ignored in all layers but the last.",
            ("h_n",),
            both(deep, loss_of_h_n),
            (('if "h_n.grad" in cotangents and k == config.num_layers - 1:', 'if "h_n.grad" in cotangents:'),),
            _least(num_layers=2),
        ),
    ),
    _wrong(
        _back.two_readers,
        any_of(deep, one_way, batch_first),
        Mistake(
            "gradients",
            "The gradient by x is that through the forward direction alone.",
            ("forward direction", "reverse direction", "both directions"),
            loss,
            (
                (
                    "    astern.backward(g[::-1, :, H:], g_n[1])\n",
                    "    dx = dx + astern.backward(g[::-1, :, H:], g_n[1])[::-1]\n",
                ),
            ),
            _least(bidirectional=True),
        ),
    ),
    _wrong(
        _back.same_order,
        any_of(deep, one_way),
        Mistake(
            "gradients",
            "The reverse direction goes back through the gradient of its output in forward order.",
            ("reverse", "order"),
            lambda c: c.T > 1 and c.loss in {"output", "both"},
            (("g[..., :H], g[..., H:]", "g[..., :H], g[::-1, :, H:]"),),
            _least(T=2, bidirectional=True),
        ),
    ),
    _wrong(
        _back.detached_stack,
        two_ways,
        Mistake(
            "gradients",
            "No gradient flows from a layer into the one below.",
            ("detaches the layers", "layer below", "between layers", "lower layers", "layers below", "into the layer"),
            both(loss, deep),
            (("if k > 0:", "if False:"),),
            _least(num_layers=2),
        ),
    ),
)


# Wrong, in torch and in JavaScript.

_UNCHECKED: Final = Mistake(
    "refusals",
    "Malformed calls are not refused: no argument is checked, and an hx of one sequence is broadcast.",
    ("accepted silently",),
    never,
    (),
)

WRONG_TORCH: Final = (
    _wrong(
        _torch.viewed,
        _ONE,
        Mistake(
            "layout",
            "With batch_first, x is reshaped to (T, N, input_size), not transposed.",
            ("reshapes x",),
            both(batch_first, several_steps, several_sequences),
            (("seq.reshape(T, N, config.input_size)", "seq.permute(1, 0, 2)"),),
            _least(batch_first=True, T=2, N=2),
        ),
    ),
    _wrong(
        _torch.one_direction_starts,
        never,
        Mistake(
            "state",
            "The reverse direction starts at the forward direction's initial state.",
            (
                "forward one's row of hx",
                "forward direction's hx",
                "forward direction's initial",
                "hx of the forward",
                "same hx",
                "forward hx",
            ),
            both(two_ways, given),
            (
                (
                    'for suffix in ["", "_reverse"][: config.num_directions]:',
                    'for d, suffix in enumerate(["", "_reverse"][: config.num_directions]):',
                ),
                ("starts, []", 'p["hx"][layer * config.num_directions + d], []'),
            ),
            _least(bidirectional=True, hx=True),
        ),
    ),
    _wrong(
        _torch.detached_final,
        _ONE,
        Mistake(
            "gradients",
            "The gradient of the loss by h_n is ignored, for h_n is detached.",
            ("h_n",),
            loss_of_h_n,
            (("hs[-1].detach().unsqueeze(0)", "hs[-1].unsqueeze(0)"),),
            _least(),
        ),
    ),
    _wrong(
        _torch.detached_steps,
        _ONE,
        Mistake(
            "gradients",
            "The state is detached after every step.",
            ("every step", "detaches", "every 1", "between steps", "through time"),
            both(loss, several_steps),
            (("h = hs[-1].detach()", "h = hs[-1]"),),
            _least(T=2),
        ),
    ),
    _wrong(
        _torch.default_dtype,
        any_of(_ONE, given),
        Mistake(
            "conditional",
            "In a float64 run, it raises, for the initial state is float32.",
            ("dtype", "float64", "double"),
            double,
            (
                (
                    "torch.zeros(config.N, config.hidden_size)",
                    'torch.zeros(config.N, config.hidden_size, dtype=p["x"].dtype)',
                ),
            ),
            _least(dtype="float64"),
        ),
    ),
    _wrong(
        _torch.custom_tanh,
        two_ways,
        Mistake(
            "gradients",
            "tanh' is taken to be 1 - s**2 of the preactivation s.",
            ("preactivation", "1 - s", "argument", "before the nonlinearity"),
            both(loss, tanh),
            (("TanhFunction.apply(s)", "torch.tanh(s)"),),
            _least(nonlinearity="tanh"),
        ),
    ),
    _wrong(
        _torch.custom_relu,
        any_of(_ONE, tanh),
        Mistake(
            "gradients",
            "relu' is 1 at 0.",
            ("slope of relu where the state is zero", "at 0", "at zero", "relu'(0)"),
            loss,
            (("h = ReluFunction.apply(s)", "h = torch.relu(s)"),),
            _least(nonlinearity="relu"),
            rarely=True,
        ),
    ),
    _wrong(
        _torch.default_cells,
        two_ways,
        Mistake(
            "nonlinearity",
            "nonlinearity is ignored: it is tanh always.",
            ("ignores nonlinearity", "tanh"),
            relu,
            (("config, x) for k", "config, x, nonlinearity=config.nonlinearity) for k"),),
            _least(nonlinearity="relu"),
        ),
    ),
    _wrong(
        _torch.lenient_load,
        _ONE,
        Mistake(
            "bias",
            "Without biases, it adds random ones.",
            ("not deterministic", "random", "bias"),
            unbiased,
            (("hidden_size, nonlinearity=", "hidden_size, bias=config.bias, nonlinearity="),),
            _least(bias=False),
        ),
    ),
    _wrong(
        _torch.always_drops,
        two_ways,
        Mistake(
            "dropout",
            "Dropout between the layers drops in eval mode, too.",
            ("not deterministic", "eval", "training", "drop"),
            lambda c: c.num_layers > 1 and c.dropout > 0,
            (("F.dropout(h, config.dropout)", "F.dropout(h, config.dropout, training=False)"),),
            _least(num_layers=2),
        ),
    ),
    _wrong(
        _torch.without_zero_grad,
        any_of(_ONE, relu, batch_first, unbiased),
        Mistake(
            "gradients",
            "The gradients by the parameters are added to those of earlier calls of the same sizes.",
            ("not deterministic", "earlier call", "accumulat"),
            both(loss, lambda c: c.N > 0),
            (("    model = _MODELS[key]\n", "    model = _MODELS[key]\n    model.zero_grad()\n"),),
            _least(),
            how="later",
        ),
    ),
    _wrong(
        _torch.DroppingRNN,
        never,
        Mistake(
            "dropout",
            "In training, the last layer's output is dropped, too.",
            ("last layer", "dropout", "one layer"),
            lambda c: c.dropout > 0 and c.training,
            (
                (
                    "self.dropout, self.training)",
                    "self.dropout, self.training and layer + 1 < self.num_layers)",
                ),
            ),
        ),
    ),
    _wrong(
        _torch.ParameterRNN,
        any_of(two_ways, drops),
        _UNCHECKED,
        scope={"autocast": None},
    ),
    _wrong(
        _torch.StatefulRNN,
        any_of(two_ways, drops),
        Mistake(
            "state",
            "Without hx, it starts at the state that the call before ended with, if that has the same batch.",
            ("not deterministic", "earlier call", "used", "call before"),
            lambda c: not c.hx and c.N > 0,
            (("self.hidden = h_n.detach()", "pass"),),
            _least(hx=False),
            how="later",
        ),
        _UNCHECKED,
        scope={"autocast": None},
    ),
    _wrong(
        _torch.UnreadBias,
        any_of(two_ways, drops),
        Mistake(
            "bias",
            "b_hh is never added.",
            ("ignores bias_hh", "b_hh is never added"),
            biased,
            (
                (
                    's = s + getattr(self, f"bias_ih_l{k}")',
                    's = s + getattr(self, f"bias_ih_l{k}") + getattr(self, f"bias_hh_l{k}")',
                ),
            ),
            _least(bias=True),
        ),
        _UNCHECKED,
        scope={"autocast": None},
    ),
    _wrong(
        _node.node_in_place,
        _ONE,
        Mistake(
            "state",
            "The state is updated in place: a unit reads the new states of the units before it.",
            ("in place", "already updated", "new states of the units", "units before it"),
            both(several_units, lambda c: c.N > 0),
            (('"inPlace"', '"fresh"'),),
            _least(hidden_size=2),
        ),
    ),
)

WRONG_STRANGERS: Final = (*WRONG_FORWARD, *WRONG_BACK, *WRONG_TORCH)

STRANGERS: Final = (*RIGHT_STRANGERS, *WRONG_STRANGERS)
