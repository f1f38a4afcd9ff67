"""One self-contained HTML page from a run's log: curves, success rates of the prompts, time, and the rollouts."""
