"""What ends a command of `openrlhf kimi`, beside invalid input, which is a ValueError or an OSError."""


class Failed(RuntimeError):
    """The input is fine and the work failed all the same: exit code 1."""


class Unavailable(RuntimeError):
    """This machine cannot do the work; the message says why and what to do: exit code 2."""
