"""stand_alone_program: a function or a class that speaks the protocol of docs/other-languages.md, from Python 3.8 on.

Run as ``python stand_alone_program.py path/to/file.py:name FACTS``, with the JSON that ``interpreters`` gives it. It
imports the standard library and NumPy alone, and nothing of this package, because the interpreter that runs it need not
have it. A class of torch modules needs torch there.
"""

from __future__ import annotations

import os
import sys

# Its neighbours are not to be imported in place of the packages of their names.
_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != _HERE]

import importlib
import importlib.util
import inspect
import json
import platform
import traceback
from types import SimpleNamespace
from typing import Any

UNSENT: dict[str, Any] = {}  # The fields of a config that are not sent, with their values
OPTIONS: list[str] = []  # The arguments of nn.RNN's constructor besides its sizes
CELL_OF: dict[int, str] = {}  # The cells by the blocks of H rows in each parameter

LAYERS_NAMES: dict[str, str] = {}  # nn.RNN's own names of arguments, by which a function may call its own

FUNCTION_ARGUMENTS = ("x", "h0", "weights", "config", "cotangents", "lengths", "masks", "c0")

FINAL = {"LSTM": ("h_n", "c_n")}  # The names of the final states by the cell, of others h_n alone

OWN = {"torch": "RNN", "torch:gru": "GRU", "torch:lstm": "LSTM"}  # torch's layers by the names of their subjects


class Unusable(Exception):
    """Raised if the named object cannot be called; the message says why."""


def main() -> None:
    """Greet, and then answer cases until there are no more."""
    facts = json.loads(sys.argv[2])
    UNSENT.update(facts["unsent"])
    OPTIONS.extend(facts["options"])
    LAYERS_NAMES.update(facts["layers_names"])
    CELL_OF.update((int(blocks), cell) for blocks, cell in facts["cell_of"].items())
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the function prints is no answer
    sys.stdout = sys.stderr
    try:
        np = _numpy()
        target = _imported(sys.argv[1])
        takes = _taken(target, sys.argv[1])
    except Unusable as error:
        _say(answers, {"protocol": 1, "error": str(error)})
        return
    software = f"NumPy {np.__version__}, Python {platform.python_version()}"
    if "torch" in sys.modules:
        software = "torch {}, {}".format(sys.modules["torch"].__version__, software)
    greeting = {"protocol": 1, "takes": takes, "software": software}
    for name in ("offers", "profile", "conventions"):
        if hasattr(target, name):
            greeting[name] = getattr(target, name)
    _say(answers, greeting)
    function = _called_by_name(target, _positional(target))
    for line in iter(sys.stdin.buffer.readline, b""):
        request = json.loads(line)
        raw = sys.stdin.buffer.read(request["bytes"])
        header, arrays = _answer(np, function, takes, request, raw)
        _say(answers, header, *arrays)


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise Unusable(
            f"{sys.executable} has no NumPy ({error}); expected one that has: {sys.executable} -m pip install numpy"
        ) from None
    return numpy


def _imported(spec: str) -> Any:
    """Return the function that a name stands for; a class becomes one."""
    place, _, name = spec.rpartition(":")
    if spec in OWN:
        place, name = "torch.nn", OWN[spec]
    try:
        if place.endswith(".py"):
            sys.path.insert(0, os.path.dirname(os.path.abspath(place)))
            location: Any = importlib.util.spec_from_file_location("_rnn_harness_subject", place)
            module = importlib.util.module_from_spec(location)
            sys.modules[location.name] = module
            location.loader.exec_module(module)
        else:
            sys.path.insert(0, os.getcwd())
            module = importlib.import_module(place)
        target = module
        for part in name.split("."):
            target = getattr(target, part)
    except BaseException as error:  # a module may raise anything
        frame = traceback.extract_tb(error.__traceback__)[-1]
        at = f" (line {frame.lineno} of {frame.filename})" if frame.filename != __file__ else ""
        reason = "cannot be imported by {}: {}: {}{}"
        raise Unusable(reason.format(sys.executable, type(error).__name__, error, at)) from None
    kinds = {(type(value).__module__, type(value).__name__) for value in vars(module).values()}
    if ("harness.space.cells", "Cell") in kinds:
        raise Unusable("its file defines a harness.Cell, which no other interpreter knows: leave the interpreter out")
    return _of_class(target) if inspect.isclass(target) else target


def _positional(function: Any) -> list[str]:
    """Return what is passed for the parameters that take no name: by their names, or the documented four.

    Those up to the last that has a name of nn.RNN's own are passed so, too, if all of them are known.
    """
    every = inspect.signature(function).parameters.values()
    leading = [arg for arg in every if arg.kind in (arg.POSITIONAL_ONLY, arg.POSITIONAL_OR_KEYWORD)]
    own = max((i for i, arg in enumerate(leading, 1) if arg.name in LAYERS_NAMES), default=0)
    called = [LAYERS_NAMES.get(arg.name, arg.name) for arg in leading[:own]]
    if (
        called
        and set(called) <= set(FUNCTION_ARGUMENTS)
        and len({*called, *(arg.name for arg in leading[own:])}) == len(leading)
    ):
        return called
    only = [arg for arg in leading if arg.kind is arg.POSITIONAL_ONLY]
    required = [arg.name for arg in only if arg.default is arg.empty]
    in_order = len(required) == 4 and all(
        name == FUNCTION_ARGUMENTS[i] or name not in FUNCTION_ARGUMENTS for i, name in enumerate(required)
    )
    names = [arg.name for arg in only]
    return list(FUNCTION_ARGUMENTS[:4]) if in_order and not set(names) <= set(FUNCTION_ARGUMENTS) else names


def _called_by_name(function: Any, positional: list[str]) -> Any:
    return (lambda **values: function(*[values.pop(name) for name in positional], **values)) if positional else function


def _taken(function: Any, spec: str) -> list[str]:
    positional = _positional(function)
    every = list(inspect.signature(function).parameters.values())
    parameters = [arg for arg in every[len(positional) :] if arg.kind is not arg.POSITIONAL_ONLY]
    if any(arg.kind is arg.VAR_KEYWORD for arg in parameters):
        names = {*positional, *(arg.name for arg in parameters)}
        return [name for name in FUNCTION_ARGUMENTS if name in FUNCTION_ARGUMENTS[:4] or name in names]
    unknown = [arg.name for arg in parameters if arg.name not in FUNCTION_ARGUMENTS and arg.default is arg.empty]
    unknown += [name for name in positional if name not in FUNCTION_ARGUMENTS]
    taken = [*positional, *(arg.name for arg in parameters if arg.name in FUNCTION_ARGUMENTS)]
    if unknown or not taken:
        reason = "{}({}): expected a function of some of {}"
        raise Unusable(reason.format(spec, ", ".join(arg.name for arg in every), ", ".join(FUNCTION_ARGUMENTS)))
    return taken


def _answer(np: Any, function: Any, takes: list[str], request: dict[str, Any], raw: bytes) -> Any:
    try:
        arguments, config = _arguments(np, request, raw)
        with np.errstate(all="ignore"):
            returned = function(**{name: arguments[name] for name in takes})
        named = _named(returned, FINAL.get(config.cell, ("h_n",)), readout=config.output_size is not None)
        arrays = {name: _array(np, name, value) for name, value in named.items()}
    except NotImplementedError as error:
        return {"unsupported": str(error) or "NotImplementedError"}, []
    except _Malformed as error:
        return {"malformed": str(error)}, []
    except BaseException as error:  # whatever the function raises is its answer
        frames = error.__traceback__ and error.__traceback__.tb_next
        report = "".join(traceback.format_exception(type(error), error, frames))
        return {"error": str(error), "kind": type(error).__name__, "traceback": report}, []
    shapes = {name: array.shape for name, array in arrays.items()}
    dtypes = {name: array.dtype.name for name, array in arrays.items()}
    return {"arrays": shapes, "dtype": dtypes}, list(arrays.values())


def _arguments(np: Any, request: dict[str, Any], raw: bytes) -> Any:
    """Return what a function is given of a case, and its config."""
    dtype = np.dtype(request["dtype"]) if request["dtype"] != "bfloat16" else _bfloat16(np)
    arrays, start = {}, 0
    for name, shape in request["arrays"].items():
        size = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(raw, dtype, size, start).reshape(shape).copy()
        start += size * dtype.itemsize
    config = SimpleNamespace(**dict(UNSENT, **{n: v for n, v in request.items() if n not in ("arrays", "bytes")}))
    config.cell = config.cell.upper()
    config.num_directions = 2 if config.bidirectional else 1
    config.drops = config.training and config.dropout > 0 and config.num_layers > 1
    config.lengths = None if config.lengths is None else tuple(config.lengths)
    return {
        "x": arrays.pop("x"),
        "h0": arrays.pop("h0"),
        "c0": arrays.pop("c0", None),
        "cotangents": {name: arrays.pop(name) for name in list(arrays) if name.endswith(".grad")},
        "masks": [arrays.pop(n).astype(bool) for n in list(arrays) if n.startswith("mask_l")] if config.drops else None,
        "lengths": None if config.lengths is None else np.array(config.lengths),
        "weights": arrays,
        "config": config,
    }, config


def _bfloat16(np: Any) -> Any:
    try:
        import ml_dtypes
    except ImportError:
        raise NotImplementedError(f"bfloat16 needs ml_dtypes in {sys.executable}") from None
    return np.dtype(ml_dtypes.bfloat16)


class _Malformed(Exception):
    pass


def _named(returned: Any, final: Any, *, readout: bool) -> dict[str, Any]:
    """Return results by name: ``(output, h_n)``, with a readout other forms, and a dict of gradients at the end.

    ``final`` are the names of the final states, which may be a tuple of their own if there are several.
    """
    gradients: dict[str, Any] = {}
    if isinstance(returned, (tuple, list)) and returned and isinstance(returned[-1], dict):
        renamed = {"h0": "hx", "c0": "cx"}
        names = {name: str(name).removesuffix(".grad") for name in returned[-1]}
        gradients = {renamed.get(names[n], names[n]) + ".grad": value for n, value in returned[-1].items()}
        returned = returned[:-1] if len(returned) > 2 else returned[0]
    states = ", ".join(final)
    expected = f"(output, {states}, readout) or (readout, {states})" if readout else f"(output, {states})"
    if hasattr(returned, "shape"):  # without a readout, only a function that declares it may return that
        return dict({"readout" if readout else "h_n": returned}, **gradients)
    if not isinstance(returned, (tuple, list)):
        raise _Malformed(f"returned {_described(returned)}, expected {expected}")
    if len(final) > 1 and len(returned) > 1 and isinstance(returned[1], (tuple, list)):
        returned = [returned[0], *returned[1], *returned[2:]]
    ways = [("readout", *final), ("output", *final, "readout")] if readout else [("output", *final)]
    fit = [way for way in ways if len(way) == len(returned)]
    if not fit:
        raise _Malformed(f"returned {len(returned)} things, expected {expected}")
    return dict(zip(fit[0], returned), **gradients)


def _array(np: Any, name: str, value: Any) -> Any:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if not hasattr(value, "shape"):
        raise _Malformed(f"returned {_described(value)} for {name}, expected an array")
    array = np.asarray(value)
    if array.dtype.kind not in "fiubc" and array.dtype.name != "bfloat16":
        raise _Malformed(f"returned an array of {array.dtype} for {name}, expected numbers")
    return array


def _described(value: Any) -> str:
    noun = type(value).__name__
    return "None" if value is None else ("an " if noun[0] in "aeio" else "a ") + noun


def _say(stream: Any, header: dict[str, Any], *arrays: Any) -> None:
    stream.write(json.dumps(header, default=list).encode() + b"\n")
    for array in arrays:
        stream.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    stream.flush()


def _of_class(cls: Any) -> Any:
    """Return a function that builds a class with nn.RNN's constructor and state_dict, and calls it."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    conventions = getattr(cls, "conventions", {})
    conventions = conventions if isinstance(conventions, dict) else dict.fromkeys(conventions, True)
    if (cell := _cell_of(cls)) != "RNN":
        conventions = dict({cell.lower(): True}, **conventions)

    def run_layer(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any, lengths: Any, c0: Any = None) -> Any:
        if config.drops:
            raise NotImplementedError("dropout in training: its masks are unknown")
        given_states = {"hx": h0} if c0 is None else {"hx": h0, "cx": c0}
        x, *states = (
            torch.from_numpy(array).requires_grad_(config.loss is not None) for array in (x, *given_states.values())
        )
        options = [name for name in OPTIONS if name != "nonlinearity" or config.cell == "RNN"]
        module = cls(config.input_size, config.hidden_size, **{name: getattr(config, name) for name in options})
        module = module.to(x.dtype).train(config.training)
        tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
        module.load_state_dict({name: tensor for name, tensor in tensors.items() if not name.startswith("readout.")})
        own = dict(module.named_parameters())
        own.update(
            (name, value.requires_grad_(config.loss is not None)) for name, value in tensors.items() if name not in own
        )
        passed = x
        if lengths is not None:
            passed = pack_padded_sequence(
                x, torch.from_numpy(lengths), batch_first=config.batch_first, enforce_sorted=config.enforce_sorted
            )
        with torch.set_grad_enabled(config.loss is not None):
            start = [states[0] if c0 is None else tuple(states)] if config.hx else []
            output, final = module(passed, *start)
            if lengths is not None:
                output, _ = pad_packed_sequence(output, batch_first=config.batch_first)
            results = dict(zip(("output", "h_n", "c_n"), (output, *([final] if c0 is None else final))))
            if config.output_size is not None:
                results["readout"] = output @ own["readout.weight"].T + own["readout.bias"]
        if config.loss is None:
            return tuple(results.values())
        by = dict({"x": x}, **(dict(zip(given_states, states)) if config.hx else {}))
        by = {"inputs": by, "weights": own, "all": dict(by, **own)}[config.wrt]
        read = {name[:-5]: torch.from_numpy(array) for name, array in cotangents.items()}
        gradients = torch.autograd.grad(
            [results[name] for name in read], list(by.values()), list(read.values()), allow_unused=True
        )
        zeros = [torch.zeros_like(tensor) if g is None else g for tensor, g in zip(by.values(), gradients)]
        return tuple(results.values()) + (dict(zip(by, zeros)),)

    def rnn(x: Any, h0: Any, weights: Any, config: Any, cotangents: Any, lengths: Any) -> Any:
        return run_layer(x, h0, weights, config, cotangents, lengths)

    made: Any = run_layer if conventions.get("lstm") else rnn
    vars(made)["offers"] = {"batched": (True, False)}
    vars(made)["conventions"] = conventions
    return made


def _cell_of(cls: Any) -> str:
    """Return the cell of a class with nn.RNN's state_dict, which the rows of its recurrent matrix tell."""
    size = 2
    try:
        rows = len(cls(1, size).state_dict()["weight_hh_l0"])
    except Exception:  # another class, or one that raises: the first call says what is wrong
        return "RNN"
    return CELL_OF.get(rows // size, "RNN") if rows % size == 0 else "RNN"


if __name__ == "__main__":
    main()
