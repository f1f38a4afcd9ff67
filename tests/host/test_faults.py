"""Faults that must end a run at once, with their reason: of the weight sync, of rewards, of the loss, and SIGTERM."""

import asyncio
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from openrlhf.utils.agent import SingleTurnAgentExecutor
from openrlhf.utils.distributed_util import broadcast_from_trainer

REWARDS = {
    "raises": "def reward_func(queries, prompts, labels):\n    raise ValueError('what the parser met')\n",
    "returns nothing": "def reward_func(queries, prompts, labels):\n    return None\n",
    "has no rewards": "def reward_func(queries, prompts, labels):\n    return {'reward': 1.0}\n",
    "never returns": "import threading\n\ndef reward_func(queries, prompts, labels):\n    threading.Event().wait(5)\n",
    "is right": "def reward_func(queries, prompts, labels):\n    return {'rewards': 0.5, 'extra_logs': {'x': 1}}\n",
}


class Tokenizer:
    def __call__(self, text, **kwargs):
        return {"input_ids": torch.tensor([[1, 2]])}

    def decode(self, tokens, **kwargs):
        return "12+10=22"


class Engine:
    async def generate(self, *args, **kwargs):
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=[3], finish_reason="stop", logprobs=None)])


def grade(url, timeout=60.0):
    executor = SingleTurnAgentExecutor(str(url), reward_timeout=timeout)
    params = SimpleNamespace(max_tokens=4, logprobs=None)
    return asyncio.run(executor.execute("12+10=", "22", params, 16, Tokenizer(), Engine()))


@pytest.mark.parametrize(
    "name, said",
    [
        ("raises", r"no reward from .*reward.py: ValueError: what the parser met; the prompt: '12\+10='"),
        ("returns nothing", r"reward.py returned None: it must be a dictionary with 'rewards'"),
        ("has no rewards", r"returned \{'reward': 1.0\}: it must be a dictionary with 'rewards'"),
        ("never returns", r"TimeoutError: it has not returned within reward.timeout, 0.1 seconds"),
    ],
)
def test_a_reward_function_that_gives_no_reward_ends_the_run(tmp_path, name, said):
    (tmp_path / "reward.py").write_text(REWARDS[name])
    with pytest.raises((RuntimeError, ValueError), match=said):
        grade(tmp_path / "reward.py", timeout=0.1)


def test_a_reward_is_also_the_score_and_may_bring_metrics(tmp_path):
    (tmp_path / "reward.py").write_text(REWARDS["is right"])
    response = grade(tmp_path / "reward.py")
    assert (response["reward"], response["scores"], response["extra_logs"]) == (0.5, 0.5, {"x": 1})


def test_a_reward_server_that_is_down_ends_the_run(monkeypatch, unused_tcp_port=9):
    async def at_once(seconds):
        pass

    monkeypatch.setattr("openrlhf.utils.agent.asyncio.sleep", at_once)
    with pytest.raises(RuntimeError, match=r"http://127.0.0.1:9/r failed 5 times, the last time by ClientConnector"):
        grade(f"http://127.0.0.1:{unused_tcp_port}/r")


@pytest.mark.parametrize("reward, scores", [(float("nan"), 0.0), (1.0, float("inf")), ("1", 1.0), ([1.0, None], 1.0)])
def test_a_reward_that_is_not_a_finite_number_ends_the_run(reward, scores):
    from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator

    generator = object.__new__(SamplesGenerator)
    response = {"observation_tokens": [1, 2, 3], "action_ranges": [(2, 3)], "rollout_log_probs": None}
    with pytest.raises(ValueError, match=r"of a response is .*: it must be a finite number.*the prompt: '12\+10='"):
        generator._process_response_into_experience(
            response | {"prompt": "12+10=", "label": "22", "reward": reward, "scores": scores}
        )


class Work:
    """A broadcast that no engine takes part in any more."""

    def __init__(self, done=False):
        self.done, self.polls = done, 0

    def is_completed(self):
        self.polls += 1
        return self.done

    def wait(self):
        raise RuntimeError("Connection closed by peer")


@pytest.mark.parametrize("done", [False, True])
def test_a_failed_weight_sync_raises_the_engines_own_error(done):
    """Whether the broadcast still waits for the engine or has lost it."""

    def raise_failure(seconds):
        if done or work.polls > 3:
            raise ValueError("the engine's own error")

    work = Work(done)
    group = SimpleNamespace(broadcast=lambda tensors, options: work)
    with pytest.raises(ValueError, match="the engine's own error"):
        broadcast_from_trainer(torch.zeros(3), group, raise_failure)


@pytest.mark.stack
def test_a_weight_sync_between_real_processes_of_a_group():
    from torch.distributed import HashStore, PrefixStore, ProcessGroupGloo

    store, received = HashStore(), torch.zeros(3)

    def group(rank):
        return ProcessGroupGloo(PrefixStore("weights", store), rank, 2)

    def receive():
        broadcast_from_trainer(received, group(1))

    engine = threading.Thread(target=receive)
    engine.start()
    broadcast_from_trainer(torch.arange(3.0), group(0), lambda seconds: None)
    engine.join()
    assert received.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.stack
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_never_reaches_the_weights(value):
    """In float32 without ZeRO, where the optimizer is torch's own; the others of DeepSpeed skip the step."""
    from openrlhf.utils.deepspeed import DeepspeedStrategy

    module, steps = torch.nn.Linear(2, 1), []
    module.weight.grad = torch.full((1, 2), value)
    engine = SimpleNamespace(
        module=module, global_steps=7, is_gradient_accumulation_boundary=lambda: True, step=lambda: steps.append(1)
    )
    strategy = object.__new__(DeepspeedStrategy)
    strategy.param_dtype, strategy.stage = "fp32", 0
    with pytest.raises(ValueError, match="the actor's gradient is .* after 7 optimizer steps"):
        strategy.optimizer_step(None, engine, None, name="actor")
    assert steps == []


SIGTERM = """
import os, signal, threading
import ray
from openrlhf.cli import train_ppo_ray as trainer
from openrlhf.utils.config import hierarchize

def wait_for_ever(args):
    @ray.remote
    def never():
        threading.Event().wait()

    call = never.remote()
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    while True:
        ray.wait([call], timeout=2)

trainer.get_strategy = wait_for_ever
trainer.local_cluster = lambda: {"num_cpus": 1, "include_dashboard": False}
trainer.train(hierarchize(trainer.get_parser().parse_args(["--train.disable_forks"])))
"""


@pytest.mark.slow
@pytest.mark.stack
def test_sigterm_ends_a_run_with_143_and_no_trace():
    done = subprocess.run([sys.executable, "-c", SIGTERM], capture_output=True, text=True, timeout=300)
    assert done.returncode == 143, done.stderr
    assert "SIGTERM received" not in done.stderr and "Traceback" not in done.stderr


def test_openrlhfs_own_launch_form_loads_the_plugins_as_the_command_does():
    """python -m openrlhf.cli.train_ppo_ray, also what `ray job submit` runs."""
    environment = os.environ | {"OPENRLHF_PLUGINS": "kimi-policy"}
    command = [sys.executable, "-m", "openrlhf.cli.train_ppo_ray", "--kimi.policy.tau", "0.25", "--dry-run"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert "kimi.policy.tau" in done.stdout and "0.25" in done.stdout, done.stderr
