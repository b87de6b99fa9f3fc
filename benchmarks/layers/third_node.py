"""A recurrent layer in JavaScript, behind a pipe."""

import atexit
import base64
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np

NODE = shutil.which("node")
_SCRIPT = Path(__file__).with_suffix(".js")
_children = []


def _stop():
    for child in _children:
        child.stdin.close()
        child.wait()
        child.stdout.close()
    _children.clear()


def _ask(request):
    """One line to node, one line back; node is started when it is first asked."""
    if not _children:
        if NODE is None:
            raise NotImplementedError("node is not installed")
        _children.append(subprocess.Popen([NODE, str(_SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        atexit.register(_stop)
    child = _children[0]
    child.stdin.write(json.dumps(request).encode() + b"\n")
    child.stdin.flush()
    return json.loads(child.stdout.readline())


def _encoded(array):
    return base64.b64encode(np.ascontiguousarray(array, "<f8").tobytes()).decode()


def _rnn(layer, x, h0, weights, config):
    if config.num_layers > 1 or config.bidirectional:
        raise NotImplementedError("one layer, one direction")
    x = x.swapaxes(0, 1) if config.batch_first else x
    T, N, I = x.shape
    H = config.hidden_size
    b = np.zeros(H)
    if config.bias:
        b = weights["bias_ih_l0"].astype("f8") + weights["bias_hh_l0"]
    answer = _ask(
        {
            "layer": layer,
            "sizes": {"T": T, "N": N, "I": I, "H": H, "nonlinearity": config.nonlinearity},
            "x": _encoded(x),
            "h": _encoded(h0),
            "w": _encoded(weights["weight_ih_l0"]),
            "u": _encoded(weights["weight_hh_l0"]),
            "b": _encoded(b),
        }
    )
    output = np.frombuffer(base64.b64decode(answer["out"]), "<f8").reshape(T, N, H).astype(x.dtype)
    h_n = np.frombuffer(base64.b64decode(answer["last"]), "<f8").reshape(1, N, H).astype(x.dtype)
    return (output.swapaxes(0, 1) if config.batch_first else output), h_n


def node(x, h0, weights, config):
    return _rnn("fresh", x, h0, weights, config)


def node_in_place(x, h0, weights, config):
    return _rnn("inPlace", x, h0, weights, config)
