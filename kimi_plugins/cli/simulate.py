"""The options of `openrlhf kimi simulate`; light, because every `openrlhf kimi` command imports it."""

import argparse
from pathlib import Path

from kimi_plugins.options import Rollout


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    parser = commands.add_parser(
        "simulate",
        help="what whole, partial and asynchronous rollouts cost on any number of engines",
        description="Simulate, by discrete events and without any GPU, how long steps take with whole rollouts, with "
        "partial ones (kimi-rollout) and with asynchronous training, from an engine's measured speeds and the "
        "response lengths. Prints a table, recommends kimi.rollout.segment_tokens, writes JSON and an HTML page.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--engine",
        type=Path,
        required=True,
        metavar="FILE",
        help='JSON of a measured engine: {"decode": [[requests, tokens a second of all of them], ...], "prefill": '
        'tokens a second, "max_running": requests}; examples/simulate has some',
    )
    add("--lengths", type=Path, metavar="FILE", help="response lengths: a run's rollouts.jsonl, or a number a line")
    add("--mean", type=float, default=8000, help="without --lengths: mean of a log-normal distribution, tokens")
    add("--p99-over-mean", type=float, default=4.0, help="its 99 %% quantile over its mean, between 1 and 15")
    add("--longest", type=int, default=32768, help="where it is cut, tokens")
    add("--engines", type=int, nargs="+", default=[8], help="numbers of engines to simulate")
    add("--prompts-per-engine", type=int, default=16, help="prompts a step for each engine")
    add("--k", type=int, default=8, help="responses a prompt")
    add("--prompt-tokens", type=int, default=500, help="tokens of a prompt")
    add("--train-rate", type=float, default=6500, help="tokens a second that one engine's devices train on")
    add("--sync-seconds", type=float, default=10, help="for new weights to reach the engines")
    add("--segment-tokens", type=int, help="budget of partial rollouts; if it is not given, one is recommended")
    add("--in-flight", type=float, default=Rollout.in_flight, help="as kimi.rollout.in_flight")
    add("--train-share", type=float, help="asynchronous: share of the devices that train; if not given, the best")
    add("--max-staleness", type=int, default=2, help="asynchronous: batches that may be drawn ahead")
    add("--steps", type=int, default=40, help="steps of each simulation")
    add("--seed", type=int, default=0, help="of the lengths")
    add("--out", type=Path, default=Path("simulation"), help="directory for simulation.json and simulation.html")
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    from kimi_plugins.simulate.command import run

    return run(args)
