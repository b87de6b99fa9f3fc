"""errors: the one that means "this cannot be asked"; its text says what was given, what was expected, what to do."""


class UsageError(ValueError):
    """A request that makes no sense as it stands; the command line turns it into exit code 2."""
