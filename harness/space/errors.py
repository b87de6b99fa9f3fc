"""The error for a request that cannot be answered; its text says what was given, what was expected and what to do."""


class UsageError(ValueError):
    """A request that makes no sense as it stands; the command line turns it into exit code 2."""
