"""Runs a test-case generator several times, inside the sandbox; a line of JSON for each on standard output.

Standard library only, but for what the generator imports (CYaRon).
"""

import io
import json
import os
import random
import sys


def main(generator: str, cases: int) -> None:
    """Line n is what the generator printed as its n-th case, or null where it failed."""
    results = os.fdopen(os.dup(1), "w")
    with open(generator, encoding="utf-8") as file:
        program = compile(file.read(), generator, "exec")
    for number in range(cases):
        random.seed(number)
        sys.argv = [generator, str(number)]
        sys.stdout = io.StringIO()
        try:
            exec(program, {"__name__": "__main__"})
            text = sys.stdout.getvalue()
        except Exception as error:  # this case fails, the others need not
            print(f"case {number + 1}: {type(error).__name__}: {error}", file=sys.stderr)
            text = None
        results.write(json.dumps(text) + "\n")
        results.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
