"""What all commands of `openrlhf kimi` share."""

import sys
from collections.abc import Callable

INVALID = (OSError, ValueError)


def exit_code(
    command: str,
    work: Callable[[], int | None],
    *,
    invalid: tuple[type[Exception], ...] = INVALID,
    failed: type[Exception] | tuple[()] = (),
    hint: str = "",
    interrupted: str = "; the same command goes on from here",
) -> int:
    """Do a command's work and return its exit code: work's own or 0, 2 for invalid input, 130 for Ctrl-C.

    A dead engine ends in 1.

    Args:
        command: its name, which the messages begin with.
        invalid: exceptions that say what is wrong with the input.
        failed, hint: an exception that ends in 1, and what is said after its message.
        interrupted: what is said after "interrupted".
    """
    try:
        return work() or 0
    except invalid as error:
        print(f"openrlhf kimi {command}: error: {error}", file=sys.stderr)
        return 2
    except failed as error:
        print(f"openrlhf kimi {command}: error: {error}; {hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"openrlhf kimi {command}: interrupted{interrupted}", file=sys.stderr)
        return 130
