"""Layers that misbehave: from a call on, or now and then, they spoil their process; what they return is right.

Each has a word for what is to be said of it: *agrees*, or *broken* for a finding.
"""

import builtins
import gc
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, Final

import numpy as np

EXPECTED: Final[dict[str, str]] = {}
_CALLS: Final[list[int]] = []
FROM: Final = 30  # the call from which on they misbehave


def right(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Return what one tanh layer computes, time first."""
    plain = config.nonlinearity == "tanh" and config.bias and config.batched and config.lengths is None
    if config.num_layers > 1 or config.bidirectional or config.batch_first or not plain:
        raise NotImplementedError("one tanh layer, time first")
    h, output = h0[0], []
    for step in x:
        s = step @ weights["weight_ih_l0"].T + weights["bias_ih_l0"] + weights["bias_hh_l0"]
        h = np.tanh(s + h @ weights["weight_hh_l0"].T)
        output.append(h)
    return np.stack(output), h[None]


def wrong(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Return the same without b_hh."""
    return right(x, h0, {**weights, "bias_hh_l0": weights["bias_hh_l0"] * 0}, config)


def _after(seconds: float, layer: Callable[..., Any]) -> Callable[..., Any]:
    """Return a layer that takes so many seconds for each call."""

    def layer_after(x: Any, h0: Any, weights: Any, config: Any) -> Any:
        time.sleep(seconds)
        return layer(x, h0, weights, config)

    return layer_after


slow, slow_and_wrong = _after(0.02, right), _after(0.02, wrong)
very_slow, very_slow_and_wrong = _after(2.0, right), _after(2.0, wrong)


def its_input(x: Any, h0: Any, weights: Any, config: Any) -> Any:
    """Return what was given."""
    return x, x[-1:]


def _spoiler(expected: str, *, often: float = 0.0) -> Callable[[Callable[[], object]], Any]:
    """Return a decorator: once, or with a probability ``often``, a function is called before the right answer."""

    def made(spoil: Callable[[], object]) -> Any:
        def layer(x: Any, h0: Any, weights: Any, config: Any) -> Any:
            _CALLS.append(1)
            if random.random() < often if often else len(_CALLS) == FROM:
                spoil()
            return right(x, h0, weights, config)

        layer.__name__ = layer.__qualname__ = spoil.__name__
        EXPECTED[spoil.__name__] = expected
        return layer

    return made


@_spoiler("broken")
def path() -> None:
    sys.path[:] = []


@_spoiler("broken")
def files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))


@_spoiler("broken")
def closed() -> None:
    os.closerange(0, 100)


@_spoiler("broken")
def garbage() -> None:
    for number in range(3, 60):
        try:
            os.write(number, b"garbage" * 10)
        except OSError:
            pass


@_spoiler("agrees")
def folder() -> None:
    os.chdir(made := tempfile.mkdtemp())
    os.rmdir(made)


@_spoiler("broken")
def numpy_again() -> None:
    for name in [name for name in sys.modules if name.startswith("numpy")]:
        del sys.modules[name]
    __import__("numpy")


@_spoiler("broken", often=0.2)
def now_and_then_raises() -> None:
    raise ValueError("now and then")


@_spoiler("broken", often=0.2)
def now_and_then_exits() -> None:
    os._exit(3)


@_spoiler("broken", often=0.2)
def now_and_then_crashes() -> None:
    os.kill(os.getpid(), 11)


@_spoiler("broken", often=0.2)
def now_and_then_is_killed() -> None:
    os.kill(os.getpid(), 9)


@_spoiler("agrees", often=1.0)
def prints() -> None:
    print("\x1b[31mred\x1b[0m\n::error::hi\n  ::error file=a::hi\n##[error]x")
    os.write(2, b"\x1b]0;title\x07::error::raw\n")


@_spoiler("agrees", often=1.0)
def traces() -> None:
    sys.settrace(None)
    sys.setprofile(None)
    sys.setrecursionlimit(80)


@_spoiler("agrees", often=1.0)
def strict() -> None:
    gc.disable()
    np.seterr(all="raise")
    warnings.simplefilter("error")


@_spoiler("agrees")
def streams() -> None:
    sys.stdout = sys.stderr = None  # type: ignore[assignment]


@_spoiler("agrees")
def forks() -> None:
    os.fork()


@_spoiler("agrees")
def threads() -> None:
    threading.Thread(target=time.sleep, args=(1000,)).start()


@_spoiler("agrees")
def environment() -> None:
    os.environ.clear()


@_spoiler("agrees")
def modules() -> None:
    for name in ("json", "pickle", "inspect"):
        sys.modules.pop(name, None)


@_spoiler("broken", often=0.2)
def interrupts() -> None:
    os.kill(os.getpid(), 2)
    time.sleep(0.1)
    raise KeyboardInterrupt


@_spoiler("broken", often=0.2)
def leaves() -> None:
    sys.exit(0)


@_spoiler("broken", often=0.2)
def recursion() -> None:
    recursion_of(1)


def recursion_of(depth: int) -> int:
    return recursion_of(depth + 1) + 1


@_spoiler("broken", often=0.2)
def memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28))
    np.ones(2**30)


def _returner(expected: str) -> Callable[[Callable[[Any, Any], Any]], Any]:
    """Return a decorator: what the function makes of the right answer is returned instead."""

    def made(changed: Callable[[Any, Any], Any]) -> Any:
        def layer(x: Any, h0: Any, weights: Any, config: Any) -> Any:
            return changed(*right(x, h0, weights, config))

        layer.__name__ = layer.__qualname__ = changed.__name__
        EXPECTED[changed.__name__] = expected
        return layer

    return made


class _Hostile:
    """An object of which nothing can be asked."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("nothing can be asked of this")

    def __repr__(self) -> str:
        raise RuntimeError("nor can it be shown")


class _Exits:
    """An object that ends its process when an array is made of it."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        os._exit(0)


class _Array(np.ndarray):
    """An array whose operations and comparisons lie."""

    def __array_ufunc__(self, *_: Any, **__: Any) -> Any:
        return "no"

    def __array_function__(self, *_: Any, **__: Any) -> Any:
        return "no"

    def __eq__(self, _other: object) -> bool:  # type: ignore[override]
        return True


@_returner("broken")
def nothing(_output: Any, _h_n: Any) -> Any:
    return None


@_returner("broken")
def words(_output: Any, _h_n: Any) -> Any:
    return "output", "h_n"


@_returner("broken")
def hostile(_output: Any, _h_n: Any) -> Any:
    return _Hostile(), _Hostile()


@_returner("broken")
def exits(_output: Any, h_n: Any) -> Any:
    return _Exits(), h_n


@_returner("broken")
def without_end(output: Any, h_n: Any) -> Any:
    return iter(lambda: output, None), h_n


@_returner("broken")
def objects(output: Any, h_n: Any) -> Any:
    return output.astype(object) * 1j, h_n


@_returner("broken")
def structured(output: Any, h_n: Any) -> Any:
    return np.zeros(output.shape, [("a", "f8"), ("b", "U5")]), h_n


@_returner("broken")
def dates(output: Any, h_n: Any) -> Any:
    return output.astype("M8[s]"), h_n


@_returner("broken")
def imaginary(output: Any, h_n: Any) -> Any:
    return output + 1j, h_n


@_returner("broken")
def vast(output: Any, h_n: Any) -> Any:
    return np.broadcast_to(output[:1, :1, :1], (2**20, 2**12, 2**10)), h_n


@_returner("broken")
def deep(output: Any, h_n: Any) -> Any:
    for _ in range(100_000):
        output = [output]
    return output, h_n


@_returner("broken")
def itself(_output: Any, h_n: Any) -> Any:
    endless: list[Any] = []
    endless.append(endless)
    return endless, h_n


@_returner("agrees")
def backwards(output: Any, h_n: Any) -> Any:
    return np.ascontiguousarray(output[::-1])[::-1], h_n


@_returner("agrees")
def other_bytes(output: Any, h_n: Any) -> Any:
    (output := np.asarray(output.astype(output.dtype.newbyteorder()))).flags.writeable = False
    return output, h_n


@_returner("agrees")
def subclass(output: Any, h_n: Any) -> Any:
    return np.asarray(output).view(_Array), h_n


@_spoiler("broken", often=0.2)
def unspeakable() -> None:
    class UnspeakableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

        __repr__ = __str__

    raise UnspeakableError


@_spoiler("broken", often=0.2)
def wordy() -> None:
    raise ValueError("\x1b[31mwords\n" * 10**7)


@_spoiler("broken", often=0.2)
def group() -> None:
    raise BaseExceptionGroup("several", [KeyboardInterrupt(), ValueError("one")])


@_spoiler("broken", often=0.2)
def stops() -> None:
    raise StopIteration


@_spoiler("broken", often=0.2)
def leaves_generator() -> None:
    raise GeneratorExit


@_spoiler("broken", often=0.2)
def chained() -> None:
    error: Exception = ValueError("first")
    error.__cause__ = error
    raise error


@_spoiler("broken", often=0.05)
def waits() -> None:
    threading.Event().wait()


@_spoiler("agrees")
def alarm() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)


@_spoiler("agrees", often=1.0)
def clocks() -> None:
    time.time = time.perf_counter = time.monotonic = lambda: 0.0


@_spoiler("agrees", often=1.0)
def chance() -> None:
    random.seed(0 if len(_CALLS) % 2 else 1)
    np.random.seed(0)


@_spoiler("agrees", often=1.0)
def warns() -> None:
    warnings.simplefilter("always")
    for _ in range(100):
        warnings.warn("a flood", stacklevel=1)


@_spoiler("agrees")
def masks() -> None:
    os.umask(0o777)
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))


@_spoiler("broken")
def builtin() -> None:
    builtins.print = builtins.open = None  # type: ignore[assignment]


@_spoiler("agrees")
def tracks() -> None:
    gc.callbacks.append(lambda *_: [None] * 1000)
    gc.set_threshold(1)
