"""Where a resumed run goes on, at every step of a run: no prompt is drawn twice in an episode, and none left out."""

import queue
from types import SimpleNamespace

import pytest
from openrlhf.trainer.ppo_trainer import PPOTrainer, count_optimizer_steps
from openrlhf.trainer.ppo_trainer_async import GenerateSamplesActor
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator
from openrlhf.utils.config import hierarchize
from torchdata.stateful_dataloader import StatefulDataLoader

pytestmark = pytest.mark.stack  # imports DeepSpeed

EPISODES = 2
BATCH = 4


class Prompts(SamplesGenerator):
    """OpenRLHF's generator, of which every sample is the number of its prompt."""

    def _generate_vllm(self, dataloader_iter, num_prompts, **kwargs):
        samples = []
        for _ in range(num_prompts):
            try:
                samples.append(next(dataloader_iter).item())
            except StopIteration:
                return samples, len(samples), True
        return samples, len(samples), False


def arguments():
    names = {
        "rollout.batch_size": BATCH,
        "rollout.n_samples_per_prompt": 1,
        "train.num_episodes": EPISODES,
        "algo.dynamic_filtering_enable": False,
        "vllm.enable_sleep": False,
        "ckpt.save_on_sigterm": False,
        "eval.before_training": False,
        "eval.steps": float("inf"),
        "train.full_determinism_enable": False,
        "train.partial_rollout_enable": False,
    }
    return hierarchize(SimpleNamespace(**names))


def build(actor_class, prompts):
    trainer = object.__new__(actor_class.__ray_metadata__.modified_class)
    trainer.args = arguments()
    trainer.prompts_dataloader = StatefulDataLoader(range(prompts), batch_size=1)
    trainer.eval_dataloader, trainer.generate_kwargs = None, {}
    strategy = SimpleNamespace(args=trainer.args)
    trainer.samples_generator = Prompts(strategy, trainer.prompts_dataloader, None, None, [])
    return trainer


def run_sync(prompts, state):
    """[(the prompts of a step, the state saved after it)]."""
    trainer, steps = build(PPOTrainer, prompts), []
    trainer.init_checkpoint_states = lambda: (
        state
        or {
            "episode": 0,
            "global_step": 0,
            "total_consumed_prompts": 0,
            "data_loader_state_dict": {},
        }
    )
    trainer.restore_best_checkpoint_state = trainer.broadcast_to_vllm = lambda *_: None
    trainer.wandb_logger = trainer.tensorboard_logger = None

    def train_step(samples, step):
        steps.append([samples])
        return {}, step + 1

    trainer.train_step = train_step
    trainer.save_logs_and_checkpoints = lambda step, status, states, save: steps[-1].append(states)
    trainer.fit()
    return steps


def run_async(prompts, state):
    trainer = build(GenerateSamplesActor, prompts)
    trainer._partial_rollout, trainer._eval_just_done = True, False
    trainer.rollout_slots, trainer.rollout_queue = queue.Queue(), queue.Queue()
    for _ in range(100):
        trainer.rollout_slots.put(0)
    if state:
        trainer.load_state_dict(state["data_loader_state_dict"])
    trainer.fit(*((state["episode"], state["total_consumed_prompts"]) if state else (0, 0)))
    payloads = list(trainer.rollout_queue.queue)
    assert payloads.pop() == "done"
    return [[samples, states | {"global_step": n + 1}] for n, (samples, states, *_) in enumerate(payloads)]


@pytest.mark.parametrize("prompts", [8, 10, 3])
@pytest.mark.parametrize("run", [run_sync, run_async])
def test_a_run_resumed_after_any_step_does_the_steps_that_are_left(run, prompts):
    whole = run(prompts, None)
    assert sorted(n for samples, _ in whole for n in samples) == sorted([*range(prompts)] * EPISODES)
    for done in range(1, len(whole) + 1):
        rest = run(prompts, whole[done - 1][1])
        assert [samples for samples, _ in rest] == [samples for samples, _ in whole[done:]]


@pytest.mark.parametrize(
    "prompts, batch, steps", [(8, 4, 2 * 2), (10, 4, 3 * 2), (10, 3, 2 * 2 * 2 + 1 * 2), (1, 64, 2)]
)
def test_the_schedule_counts_the_optimizer_steps_of_short_iterations(prompts, batch, steps):
    args = hierarchize(
        SimpleNamespace(
            **{
                "rollout.batch_size": 4,
                "rollout.n_samples_per_prompt": 1,
                "train.batch_size": batch,
                "train.num_episodes": 2,
                "train.max_epochs": 1,
            }
        )
    )
    assert count_optimizer_steps(prompts, args) == steps
