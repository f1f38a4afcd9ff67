"""Does a run that is killed again and again end where an undisturbed one ends?

One process of a small run, chosen at random, is killed by SIGKILL in a phase and at a moment chosen at random; the
same command is started again at once with `--resume auto`; and so on. At the end the metrics of all steps, the
rollouts and the weights are compared with those of a run of the same seed that nothing happened to.

    python benchmarks/chaos.py OUT --kills 50                 # about an hour on two idle cores
    python benchmarks/chaos.py OUT --kills 50 --seconds 450   # a slice of it; the same command goes on

Writes OUT/chaos.json (--result) and prints what happened when what died, as a table of Markdown.
"""

import argparse
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import median

import psutil
from common import machine, progress, write_json

from kimi_plugins import run_log

HERE = Path(__file__).parent
END = 240  # seconds a run may take to end after a process of it was killed, before that counts as hanging
GOES_ON = 2  # steps after which a run counts as one that the killed process does not matter to
START_UP = 300
RAY_TIMED_OUT = "The current node timed out during startup."  # fixed limits of 15 and 30 seconds
RAYS_OWN = ("raylet", "GCS", "Ray's ")  # whose death can also be the cause of that
PHASES = ("start-up", "rollout", "experience", "training", "weight sync", "checkpoint")
PROMPTS = 8  # of a step
LAST = 2  # kills that are kept for the end of the run: the model is saved, everything is shut down
NOT_COMPARED = ("time", "timing/")
REWARD = """
def reward_func(queries, prompts, labels):
    reward = float(queries[0][len(prompts[0]):].count(labels[0][-1]) >= 2)
    return {"rewards": reward, "scores": reward, "extra_logs": {}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, help="of a new run; default: two and a half for each kill")
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many; call again to go on")
    parser.add_argument("--result", type=Path)
    args = parser.parse_args()
    out = args.out.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the run in progress is ended, too
    chaos = Chaos(out, args.kills, args.steps or args.kills * 5 // 2, args.seed, time.monotonic() + args.seconds)
    if chaos.run():
        result = chaos.result()
        write_json(args.result or out / "chaos.json", result)
        print(table(result["kills"]))


class Chaos:
    """State between calls: OUT/kills.json, and the two runs' own directories."""

    def __init__(self, out: Path, kills: int, steps: int, seed: int, deadline: float) -> None:
        self.out, self.planned, self.steps, self.seed, self.deadline = out, kills, steps, seed, deadline
        self.kills = json.loads((out / "kills.json").read_text()) if (out / "kills.json").exists() else []
        self.leftovers: list[tuple[dict, float, set[psutil.Process]]] = []
        self.starts = 0

    def run(self) -> bool:
        """Go on; whether everything is done."""
        self.steps = make_inputs(self.out, self.steps)
        if not (self.out / "undisturbed" / "finished").exists():
            progress(f"the undisturbed run, {self.steps} steps")
            run = Run(self.out, "undisturbed", self.steps, resume=False)
            try:
                self.wait(run, lambda: run.phase() is not None, START_UP)
                (self.out / "start_up").write_text(f"{time.time() - run.began:.1f}")
                if run.process.wait() != 0:
                    sys.exit(f"the undisturbed run failed:\n{run.tail(30)}")
                run.finish()
            finally:
                run.end()
        while not (self.out / "disturbed" / "finished").exists():
            if self.out_of_time():
                break
            self.attempt()
            (self.out / "kills.json").write_text(json.dumps(self.kills, indent=1))
        while self.leftovers:
            self.note_leftovers()
            time.sleep(0.2)
        (self.out / "kills.json").write_text(json.dumps(self.kills, indent=1))
        return (self.out / "disturbed" / "finished").exists()

    def out_of_time(self) -> bool:
        return time.monotonic() > self.deadline - END

    def attempt(self) -> None:
        """Start the run, kill processes of it until it ends, and let it end by itself when all kills were made."""
        run = Run(self.out, "disturbed", self.steps, resume=True)
        self.starts += 1
        try:
            while run.process.poll() is None and len(self.kills) < self.planned and not self.out_of_time():
                self.kill(run, random.Random(f"{self.seed} {len(self.kills)} {self.starts}"))
            if len(self.kills) >= self.planned:
                self.wait(run, lambda: False, float("inf"))
                if run.process.returncode != 0 and self.kills[-1]["exit_code"] is None:
                    self.unexpected(run)
            if run.process.poll() == 0:  # or before so many kills: there were no steps left for them
                run.finish()
        finally:
            run.end()

    def kill(self, run: "Run", dice: random.Random) -> None:
        """Kill one process and see what happens."""
        at_the_end = self.planned - len(self.kills) <= LAST or run.last_step() > self.steps - 4
        phase = "end" if at_the_end else dice.choice(PHASES if run.phase() is None else PHASES[1:])
        if phase == "start-up":
            self.wait(
                run, lambda: run.phase() is not None, dice.uniform(0, float((self.out / "start_up").read_text()))
            )
        elif at_the_end:
            self.wait(run, lambda: run.phase() == phase, float("inf"))
            time.sleep(dice.uniform(0, 2))
        else:
            for _ in range(dice.choice((1, 1, 2))):  # the next time, or the one after
                self.wait(run, lambda: run.phase() not in (phase, None), START_UP)
                self.wait(run, lambda: run.phase() == phase, START_UP)
            time.sleep(dice.uniform(0, run.usual_length(phase)))
        if run.process.poll() is not None:
            return None if run.process.returncode == 0 else self.unexpected(run)

        processes = run.components()
        component = dice.choice(sorted(processes))
        log_length, steps, phase, now = run.log.stat().st_size, run.last_step(), run.phase() or "start-up", time.time()
        dice.choice(processes[component]).kill()
        descendants = set(run.descendants)
        limit = END + (START_UP / 2 if phase == "start-up" else 0)
        self.wait(run, lambda: run.last_step() >= steps + GOES_ON, limit)
        code = run.process.poll()
        goes_on = code == 0 or (code is None and run.last_step() >= steps + GOES_ON)
        if code and RAY_TIMED_OUT in run.tail(1) and not component.startswith(RAYS_OWN):
            return progress(f"{component} in {phase} does not count: the machine is too busy for Ray to start")
        outcome = "goes on" if goes_on else "hangs" if code is None else "ended"
        record = {
            "component": component,
            "phase": phase,
            "step": steps,
            "outcome": outcome,
            "exit_code": code,
            "seconds_to_end": None if code is None else round(time.time() - now, 1),
            "seconds_to_no_process": None,
            "last_lines": [] if goes_on else run.tail(2, log_length).splitlines(),
            "redone_steps": None if not goes_on else 0,
        }
        self.kills.append(record)
        if outcome == "ended":
            self.leftovers.append((record, now, descendants))
        elif outcome == "hangs":
            run.end()
        progress(f"{len(self.kills)}/{self.planned} {component} in {phase}, step {steps}: {outcome}, {code}, "
                 f"{record['seconds_to_end']} s: {record['last_lines'][-1:]}")  # fmt: skip

    def unexpected(self, run: "Run") -> None:
        """A run that ended by itself has not recovered from the kill before."""
        if RAY_TIMED_OUT in run.tail(1):
            return progress("the machine is too busy for Ray to start; once more")
        if not self.kills or "resume_failed" in self.kills[-1]:
            sys.exit(f"the run fails with exit code {run.process.returncode}:\n{run.tail(30)}")
        self.kills[-1]["resume_failed"] = {"exit_code": run.process.returncode, "last_lines": run.tail(5).splitlines()}
        progress(f"the resume failed with exit code {run.process.returncode}:\n{run.tail(5)}")

    def wait(self, run: "Run", condition, seconds: float) -> None:
        """Until the condition, the end of the run, or so many seconds have passed."""
        until = time.monotonic() + seconds
        polls = 0
        while run.process.poll() is None and time.monotonic() < until and not condition():
            if polls % 100 == 0:
                run.look()
                self.note_leftovers()
                self.note_redone(run)
            polls += 1
            time.sleep(0.005)

    def note_leftovers(self) -> None:
        """When the processes of killed runs were gone; those that outlive the run by END seconds are ended."""
        for entry in list(self.leftovers):
            record, began, processes = entry
            alive = [process for process in processes if process.is_running() and not is_zombie(process)]
            record["seconds_to_no_process"] = round(time.time() - began, 1)
            if time.time() - began > END:
                record["left"] = sorted(component_of(process) or process.name() for process in alive)
                for process in alive:
                    process.kill()
                alive = []
            if not alive:
                self.leftovers.remove(entry)

    def note_redone(self, run: "Run") -> None:
        """How many logged steps the resumed run does again."""
        if self.kills and self.kills[-1]["redone_steps"] is None and (first := run.first_step()) is not None:
            for record in self.kills[::-1]:
                if record["redone_steps"] is None:
                    record["redone_steps"] = max(0, record["step"] - first + 1)

    def result(self) -> dict:
        differences = compare(self.out / "undisturbed", self.out / "disturbed")
        ended = [kill for kill in self.kills if kill["outcome"] == "ended"]
        times = [kill["seconds_to_end"] for kill in ended]
        return {
            "machine": machine(),
            "settings": {"steps": self.steps, "kills": len(self.kills), "seed": self.seed},
            "outcomes": Counter(kill["outcome"] for kill in self.kills),
            "by_component": Counter(kill["component"] for kill in self.kills),
            "by_phase": Counter(kill["phase"] for kill in self.kills),
            "seconds_to_end": {"median": median(times), "max": max(times)} if times else None,
            "redone_steps": sum(kill["redone_steps"] or 0 for kill in self.kills),
            "resumes_that_failed": sum("resume_failed" in kill for kill in self.kills),
            "differences": differences,
            "kills": self.kills,
        }


class Run:
    """One start of `openrlhf train`, and every process that descended from it."""

    def __init__(self, out: Path, name: str, steps: int, *, resume: bool) -> None:
        self.directory, self.steps = out / name, steps
        self.directory.mkdir(exist_ok=True)
        self.log, self.marks = self.directory / "log.txt", self.directory / "phases"
        self.mark_start = self.marks.stat().st_size if self.marks.exists() else 0
        self.log_start = self.log.stat().st_size if self.log.exists() else 0
        self.metrics = self.directory / "checkpoints" / run_log.FILE_NAME
        self.metrics_start = self.metrics.stat().st_size if self.metrics.exists() else 0
        self.began = time.time()
        self.descendants: set[psutil.Process] = set()
        words = ["--config", str(out / "run.yaml"), "--ckpt.path", str(self.directory / "checkpoints")]
        words += ["--ckpt.output_dir", str(self.directory / "model"), *(["--resume", "auto"] if resume else [])]
        environment = os.environ | {
            "CHAOS_PHASES": str(self.marks),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(out / "site"), str(HERE), os.environ.get("PYTHONPATH")])),
        }
        environment.pop("RAY_ADDRESS", None)
        with self.log.open("a") as log:
            self.process = psutil.Popen(
                [sys.executable, "-m", "openrlhf.cli.main", "train", *words],
                stdout=log, stderr=log, cwd=self.directory, env=environment, start_new_session=True,
            )  # fmt: skip

    def phase(self) -> str | None:
        """The phase the trainer is in; None before its first."""
        marks = self._new(self.marks, self.mark_start).split("\n")[:-1]
        if not marks:
            return None
        phase = marks[-1].partition(" ")[2]
        return "end" if phase in ("checkpoint", "weight sync") and self.last_step() == self.steps else phase

    def usual_length(self, phase: str) -> float:
        """Seconds that the phase lasted so far, median over all starts."""
        marks = [line.partition(" ") for line in self._new(self.marks, 0).splitlines()]
        pairs = zip(marks, marks[1:], strict=False)
        lengths = [float(after[0]) - float(mark[0]) for mark, after in pairs if mark[2] == phase]
        return median(lengths) if lengths else 0.1

    def last_step(self) -> int:
        """The last step that is logged, whichever start did it."""
        steps = re.findall(
            r'"split": "train", "step": (\d+)', self._new(self.metrics, max(0, self.metrics_start - 9999))
        )
        return int(steps[-1]) if steps else 0

    def first_step(self) -> int | None:
        """The first step that this start logged."""
        step = re.search(r'"split": "train", "step": (\d+)', self._new(self.metrics, self.metrics_start))
        return int(step[1]) if step else None

    def components(self) -> dict[str, list[psutil.Process]]:
        """The running processes by what they are."""
        self.look()
        found: dict[str, list[psutil.Process]] = {}
        for process in self.descendants | {self.process}:
            name = "driver" if process.pid == self.process.pid else component_of(process)
            if name and process.is_running() and not is_zombie(process):
                found.setdefault(name, []).append(process)
        return found

    def look(self) -> None:
        try:
            self.descendants.update(psutil.Process(self.process.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            pass

    def finish(self) -> None:
        (self.directory / "finished").touch()

    def tail(self, lines: int, start: int | None = None) -> str:
        text = self._new(self.log, self.log_start if start is None else start)
        return "\n".join(line[:300] for line in text.splitlines()[-lines:])

    def end(self) -> None:
        """What a power cut does, if the run has not ended by itself."""
        if self.process.poll() is None:
            self.look()
            for process in [self.process, *self.descendants]:
                if process.is_running():
                    process.send_signal(signal.SIGKILL)
            self.process.wait()

    @staticmethod
    def _new(path: Path, start: int) -> str:
        if not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(start)
            return file.read().decode(errors="replace")


def component_of(process: psutil.Process) -> str | None:
    """What a process of a run is; None for one that is ending or about to become another program."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return None
    command = " ".join(words)
    if actor := re.match(r"ray::(\w+)", command):
        return {"IDLE": "idle Ray worker", "PolicyModelActor": "actor", "PPOTrainer": "trainer",
                "RolloutRayActor": "engine", "DashboardAgent": "Ray's dashboard agent",
                "RuntimeEnvAgent": "Ray's runtime-env agent"}.get(actor[1], f"Ray worker {actor[1]}")  # fmt: skip
    if "fork_server serve" in command:  # so do its forks say, until they name themselves
        try:
            parent = " ".join(process.parent().cmdline())
        except (AttributeError, psutil.Error):
            return None
        return "starting Ray worker" if "fork_server serve" in parent else "fork server"
    for part, name in (("EngineCore", "engine core"), ("fork_server.py run", "a fork's client"),
                       ("gcs_server", "GCS"), ("raylet/raylet", "raylet"),
                       ("log_monitor.py", "Ray's log monitor"), ("autoscaler", "Ray's monitor"),
                       ("dashboard/dashboard.py", "Ray's dashboard"), ("dashboard/agent.py", "Ray's dashboard agent"),
                       ("runtime_env/agent", "Ray's runtime-env agent"), ("resource_tracker", "resource tracker"),
                       ("grading.function_worker", "the reward function's process"), ("openrlhf.cli.main train", None),
                       ("default_worker", "starting Ray worker"),
                       ("setup_worker", "starting Ray worker")):  # fmt: skip
        if part in command:
            return name
    return f"other: {Path(words[0]).name}" if words else None


def is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def make_inputs(out: Path, steps: int) -> int:
    """Prompts, reward, model, configuration, and the plugin that marks the phases as an installed distribution.

    Returns the run's steps: those that were asked for when the inputs were made.
    """
    if (out / "run.yaml").exists():
        return len((out / "prompts.jsonl").read_text().splitlines()) // PROMPTS
    info = out / "site" / "chaos_plugin-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Name: chaos-plugin\nVersion: 0\nSummary: marks the phases\n")
    (info / "entry_points.txt").write_text("[openrlhf]\nchaos = chaos_plugin\n")
    (out / "reward.py").write_text(REWARD)
    prompts = [(10 + n % 90, 10 + n // 90) for n in range(PROMPTS * steps)]
    rows = [json.dumps({"input": f"{a}+{b}=\n", "label": str(a + b)}) + "\n" for a, b in prompts]
    (out / "prompts.jsonl").write_text("".join(rows))
    subprocess.run(
        [sys.executable, "-c", "import sys; from pathlib import Path; from kimi_plugins.quickstart.model import "
         "build_model; build_model(Path(sys.argv[1]), seed=0)", str(out / "base")], check=True,
    )  # fmt: skip
    config = {
        "plugins": "kimi,chaos",
        "actor": {"model_name_or_path": str(out / "base"), "num_gpus_per_node": 1, "adam.lr": 1e-3},
        "data": {"prompt_dataset": str(out / "prompts.jsonl"), "label_key": "label", "max_len": 64},
        "reward.remote_url": str(out / "reward.py"),
        "vllm": {"num_engines": 1, "sync_backend": "gloo", "enforce_eager": True},
        "train": {"colocate_all": True, "batch_size": 32, "micro_batch_size": 16, "full_determinism_enable": True},
        "algo": {"kl.init_coef": 0, "advantage": {"estimator": "dr_grpo", "is_correction_level": "token"}},
        "rollout": {"n_samples_per_prompt": 4, "batch_size": PROMPTS, "micro_batch_size": 32, "max_new_tokens": 24,
                    "min_new_tokens": 0},
        "ds": {"attn_implementation": "sdpa", "param_dtype": "fp32", "zero_stage": 0},
        "ckpt.save_steps": 1,
        "kimi": {"length.warm_up_steps": 2, "sampling.half_life": 3, "rollout.segment_tokens": 8},
    }  # fmt: skip
    (out / "run.yaml").write_text(json.dumps(config, indent=1))  # JSON is YAML
    return steps


def table(kills: list[dict]) -> str:
    """What happened when what was killed, in Markdown: a row a component and outcome, the most frequent first."""
    groups = Counter((kill["component"], kill["outcome"]) for kill in kills)
    rows = [
        "| killed | times | in | then | the run ended after | no process left after | steps done again |",
        "|---" * 7 + "|",
    ]
    for (component, outcome), count in groups.most_common():
        of_it = [kill for kill in kills if (kill["component"], kill["outcome"]) == (component, outcome)]
        phases = Counter(kill["phase"] for kill in of_it)
        cells = [
            component,
            str(count),
            ", ".join(phase + (f" ({times})" if times > 1 else "") for phase, times in phases.most_common()),
            "the run " + outcome,
            *(_range([kill[key] for kill in of_it], " s") for key in ("seconds_to_end", "seconds_to_no_process")),
            _range([kill["redone_steps"] for kill in of_it]),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _range(values: list[float | None], unit: str = "") -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    return (f"{min(known):g}" if min(known) == max(known) else f"{min(known):g} to {max(known):g}") + unit


def compare(expected: Path, actual: Path) -> list[str]:
    """What differs between the two runs: steps, metrics, rollouts, weights; empty if nothing does."""
    found = []
    pairs = [run_log.read(path / "checkpoints", "train") for path in (expected, actual)]
    if [record["step"] for record in pairs[0]] != [record["step"] for record in pairs[1]]:
        found.append(f"steps: {len(pairs[0])} and {len(pairs[1])}")
    for ours, theirs in zip(*pairs, strict=False):
        for key in sorted(ours.keys() | theirs.keys()):
            if not key.startswith(NOT_COMPARED) and ours.get(key) != theirs.get(key):
                found.append(f"step {ours['step']}: {key}: {ours.get(key)} and {theirs.get(key)}")
    rollouts = [[*run_log.read_rollouts(path / "checkpoints")] for path in (expected, actual)]
    if rollouts[0] != rollouts[1]:
        found.append("rollouts.jsonl")
    weights = [
        hashlib.sha256((path / "model" / "model.safetensors").read_bytes()).hexdigest() for path in (expected, actual)
    ]
    if weights[0] != weights[1]:
        found.append("model.safetensors")
    return found


if __name__ == "__main__":
    main()
