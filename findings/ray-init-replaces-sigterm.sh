#!/usr/bin/env bash
# Ray 2.55.0: ray.init() puts its own SIGTERM handler in the place of the program's, and leaves it there.
#
# Seen: after ray.init() the handler is one of Ray's, which exits with the signal's number, 15; ray.shutdown() does not
# put the program's back.
# Surprising: a handler that saves a checkpoint and exits with 143, as Slurm and Kubernetes expect, is lost by starting
# Ray after it was set, without a word. It has to be set after ray.init().
set -euo pipefail
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
python3 -m venv "$directory/venv"
"$directory/venv/bin/pip" install --quiet ray==2.55.0
RAY_USAGE_STATS_ENABLED=0 RAY_TMPDIR=$directory "$directory/venv/bin/python" - <<'PYTHON'
import signal

import ray


def save_and_exit(number, frame):
    raise SystemExit(143)


signal.signal(signal.SIGTERM, save_and_exit)
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
during = signal.getsignal(signal.SIGTERM)
ray.shutdown()
after = signal.getsignal(signal.SIGTERM)
print(f"handler with Ray: {during.__qualname__}; after ray.shutdown(): {after.__qualname__}")
raise SystemExit(save_and_exit in (during, after))
PYTHON
