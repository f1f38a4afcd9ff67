"""A tiny Python program in the sandbox, on one core, beside a plain subprocess and runc in the same run.

python benchmarks/sandbox.py [--runs 100] [--repeats 5] [--before DIR] [--out FILE]

text, function: forked from the loaded interpreter; executed: a Python of its own; before: the sandbox of another
checkout, DIR, whose programs are executed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

from common import RESULTS, machine, progress, spread, write_json

from kimi_plugins.grading.programs import PREAMBLE
from kimi_plugins.sandbox.pool import Limits, Sandbox, find_python

PROGRAM = "print(sum(map(int, input().split())))"
FUNCTION = b"def add(a, b): return a + b"
BEFORE = f"""
import sys
from kimi_plugins.sandbox.pool import Sandbox, python
with Sandbox(workers=1) as sandbox:
    for _ in sys.stdin:
        result = sandbox.run([python(), "-I", "-S", "-c", {PROGRAM!r}], stdin=b"1 2\\n")
        print(result.stdout.decode().strip(), flush=True)
"""
INPUT, OUTPUT = b"1 2\n", b"3\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100, help="of each kind in a repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--before", type=Path, default=None, help="checkout whose sandbox is measured too")
    parser.add_argument("--out", type=Path, default=RESULTS / "sandbox.json")
    args = parser.parse_args()
    found = machine()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # and all that is started from here
    argv = [find_python().path, "-I", "-S", "-c", PROGRAM]
    with Sandbox(workers=1) as sandbox, tempfile.TemporaryDirectory() as bundle:
        kinds = {
            "subprocess": lambda: _subprocess(argv),
            "text": lambda: sandbox.run_python(PROGRAM.encode(), stdin=INPUT).stdout,
            "function": lambda: (
                sandbox.run_python(FUNCTION, function="add", call=[[1, 2], {}], preamble=PREAMBLE).stdout
            ),
            "executed": lambda: sandbox.run(argv, stdin=INPUT).stdout,
        }
        if args.before is not None:
            other = subprocess.Popen(
                [sys.executable, "-c", BEFORE],
                env=os.environ | {"PYTHONPATH": str(args.before)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            kinds["before"] = lambda: _ask(other)
        if shutil.which("runc"):
            _write_bundle(Path(bundle), argv)
            kinds["runc"] = lambda: _runc(bundle)
        else:
            progress("runc is not installed: without its row")
        measured = _measure(kinds, args.runs, args.repeats)
    plain = measured["subprocess"]
    rows = {
        kind: {
            "p50_ms": spread([round(1000 * median(times), 2) for times in repeats]),
            "p95_ms": spread([round(1000 * quantiles(times, n=20)[-1], 2) for times in repeats]),
            "runs_per_second": spread([round(len(times) / sum(times), 1) for times in repeats]),
            "p50_over_subprocess": spread(
                [round(median(times) / median(base), 2) for times, base in zip(repeats, plain, strict=True)]
            ),
        }
        for kind, repeats in measured.items()
    }
    write_json(args.out, {"machine": found, "runs": args.runs, "repeats": args.repeats, "kinds": rows})
    return 0


def _measure(kinds: dict, runs: int, repeats: int) -> dict[str, list[list[float]]]:
    """Seconds of each run by kind and repeat; the kinds take turns, so that each meets the same load."""
    measured = {kind: [] for kind in kinds}
    for run in kinds.values():
        _timed(run)
    for repeat in range(repeats):
        for kind in kinds:
            measured[kind].append([])
        for _ in range(runs):
            for kind, run in kinds.items():
                measured[kind][-1].append(_timed(run))
        progress(
            f"repeat {repeat + 1}: " + ", ".join(f"{k} {1000 * median(v[-1]):.1f} ms" for k, v in measured.items())
        )
    return measured


def _timed(run) -> float:
    began = time.perf_counter()
    output = run()
    seconds = time.perf_counter() - began
    if output != OUTPUT:
        raise SystemExit(f"the program wrote {output!r} instead of {OUTPUT!r}")
    return seconds


def _ask(other: subprocess.Popen) -> bytes:
    other.stdin.write(b"\n")
    other.stdin.flush()
    return other.stdout.readline()


def _subprocess(argv: list[str]) -> bytes:
    return subprocess.run(argv, input=INPUT, stdout=subprocess.PIPE).stdout


def _write_bundle(bundle: Path, argv: list[str]) -> None:
    """An OCI bundle with the same view of the machine and the same limits as the sandbox's."""
    limits = Limits()
    subprocess.run(["runc", "spec"], cwd=bundle, check=True)
    root = bundle / "rootfs"
    for name in ("usr", "tmp", "proc", "dev", "sys"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    config = json.loads((bundle / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": argv, "user": {"uid": 65534, "gid": 65534}, "cwd": "/tmp"}
    config["process"]["capabilities"] = {}
    config["mounts"] += [
        {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": [f"size={limits.disk_mb}m"]},
    ]
    config["linux"]["resources"] |= {
        "memory": {"limit": limits.memory_mb << 20},
        "pids": {"limit": limits.processes},
    }
    (bundle / "config.json").write_text(json.dumps(config))


def _runc(bundle: str) -> bytes:
    name = f"kimi-benchmark-{os.getpid()}"
    return subprocess.run(
        ["runc", "run", "--bundle", bundle, name], input=INPUT, stdout=subprocess.PIPE, stderr=sys.stderr
    ).stdout


if __name__ == "__main__":
    sys.exit(main())
