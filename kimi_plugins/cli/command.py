"""What all commands of `openrlhf kimi` share."""

import sys
from collections.abc import Callable


def exit_code(command: str, work: Callable[[], None]) -> int:
    """Do a command's work: 0, 2 for invalid input, 130 for Ctrl-C. A dead engine ends in 1."""
    try:
        work()
    except (OSError, ValueError) as error:
        print(f"openrlhf kimi {command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"openrlhf kimi {command}: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0
