"""``rnn-harness adapt``: it writes the file by which a class in another form is checked."""

import click

from harness.cli.codes import AGREES


@click.command(short_help="Print an adapter for a class that check cannot call by itself.")
@click.argument("spec", metavar="FILE.py:CLASS")
def adapt(spec: str) -> int:
    """Print a Python file with an adapter for a class of modules: how it is built, its weights, and its call.

    What could not be found out has the comment "left by adapt to fill in". Complete it, and check the adapter in place
    of the class:

    rnn-harness adapt my_rnn.py:MyRNN > adapter.py && rnn-harness check adapter.py:layer
    """
    from harness.processes import Child, LostError
    from harness.subjects.isolated import START_SECONDS
    from harness.subjects.protocol import SubjectUnavailable

    child = Child(spec)  # the user's code may print, hang, or end its process
    try:
        text = child.call(START_SECONDS, _text, spec)
    except LostError as lost:
        raise SubjectUnavailable(f"{spec}: {lost}") from None
    finally:
        child.kill()
    click.echo(text, nl=False)
    return AGREES


def _text(spec: str) -> str:
    from harness.subjects import captured_output
    from harness.subjects.adapter_template import adapter_of
    from harness.subjects.protocol import SubjectUnavailable
    from harness.subjects.registry import given_by

    captured_output.redirect(spec)
    target = given_by(spec)
    if not callable(target):
        raise SubjectUnavailable(f"{spec}: is of type {type(target).__name__}; expected a class or a function")
    try:
        return adapter_of(target, spec)
    except SubjectUnavailable:
        raise
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever the user's code raises
        raise SubjectUnavailable(f"{spec}: {type(error).__name__}: {' '.join(str(error).split())[:200]}") from None
