"""Rollouts with a token budget per iteration, in OpenRLHF's synchronous loop (k1.5 §2.6.2)."""

import itertools
import random

import ray
import torch
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator, _collect_prompt_batch
from openrlhf.trainer.ray.vllm_engine import batch_vllm_engine_call
from openrlhf.utils.logging_utils import init_logger
from ray.exceptions import RayError
from tqdm import tqdm

from kimi_plugins.policy.settings import baseline_key
from kimi_plugins.rollout import engines
from kimi_plugins.rollout.buffer import EXPIRED, Buffer, Group, Trajectory
from kimi_plugins.rollout.draw import to_draw, to_draw_at_the_end
from kimi_plugins.rollout.gaps import CURRENT_SHARE
from kimi_plugins.rollout.inputs import PromptInputs
from kimi_plugins.rollout.repetition import LOOPED
from kimi_plugins.rollout.segments import Part, advance

logger = init_logger(__name__)

# Of the generator's state, beside the buffer.
COUNTERS = ("version", "drawn", "reported", "drained", "surplus", "filtered", "begun")


class PartialSamplesGenerator(SamplesGenerator):
    """Every call lets each unfinished response grow by at most kimi.rollout.segment_tokens.

    With kimi.rollout.overlap that happens while the trainer makes the update before the call: by the policy before it.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.options = self.args.kimi.rollout
        self.buffer = Buffer()
        self.version = 0  # of the policy: calls so far, each followed by an update
        self.writing = 0  # version of the engines' weights
        self.drawn = 0  # prompts in this run
        self.reported = 0  # of them, those the trainer knows of
        self.drained = False  # no prompt left in this episode
        self.surplus: int | None = None  # groups that the last iteration's first budget finished beyond the batch
        self.filtered = 0  # groups of this iteration
        self.begun = False  # the next iteration's first budget has been granted
        self._pending: dict = {}  # remote calls of that budget, each with its group
        self._generate_kwargs: dict = {}  # of them
        self._turn = itertools.cycle(self.vllm_engines)
        self._restarts = engines.Restarts(self.vllm_engines)
        self._tokenizer_ref: ray.ObjectRef | None = None

    def state_dict(self) -> dict:
        state = {name: getattr(self, name) for name in COUNTERS} | {"buffer": self.buffer.state_dict()}
        if len(self.buffer):  # OpenRLHF's own generator, which would drop them, refuses a state that holds something
            state["holds"] = (
                f"{len(self.buffer)} prompts with unfinished responses, which whole rollouts would drop: resume with "
                f"kimi.rollout.segment_tokens (it was {self.options.segment_tokens}), and with kimi-rollout loaded"
            )
        return state

    def load_state_dict(self, state: dict) -> None:
        if state:  # empty in a checkpoint of whole rollouts
            for name in COUNTERS:
                setattr(self, name, state[name])
            self.writing = self.version
            self.buffer.load_state_dict(state["buffer"])

    @torch.no_grad()
    def generate_samples(self, seed=None, **generate_kwargs):
        """As SamplesGenerator's. seed is not used: see _seeds."""
        if getattr(self, "_dataloader_iter", None) is None and not self.drained:
            self._dataloader_iter = iter(self.prompts_dataloader)
        self.writing = self.version
        if self.version == 0 and self.args.vllm.max_restarts:
            self.restart_dead_engines()  # learns their processes
        if self.args.vllm.enable_sleep:
            batch_vllm_engine_call(self.vllm_engines, "wake_up")
        self._iterate(generate_kwargs)
        if self.args.vllm.enable_sleep:
            batch_vllm_engine_call(self.vllm_engines, "sleep")

        groups = self.buffer.take(self.args.rollout.batch_size)
        experiences = [experience for group in groups for experience in self._experiences(group, generate_kwargs)]
        pass_rate = 100 * len(groups) / (len(groups) + self.filtered) if groups else None
        self.version += 1
        if self.options.overlap:
            self._begin(generate_kwargs)
        exhausted = self.drained and len(self.buffer) == 0
        if exhausted:
            self.drained, self.surplus, self.begun = False, None, False  # the next episode begins anew
        consumed, self.reported = self.drawn - self.reported, self.drawn
        return experiences, pass_rate, consumed, exhausted

    @torch.no_grad()
    def wait_for_engines(self) -> None:
        """Collect what the engines write: with kimi.rollout.overlap during the update, before they get its weights."""
        if self._pending:
            self._collect_all(self._pending, self._generate_kwargs)

    @torch.no_grad()
    def generate_eval_samples(self, **generate_kwargs):
        """As SamplesGenerator's; begins again when an engine dies."""
        while True:
            try:
                return super().generate_eval_samples(**generate_kwargs)
            except RayError as error:
                if not (self.args.vllm.max_restarts and engines.is_death(error)):
                    raise
            logger.warning("A vLLM engine died; the evaluation begins again.")
            self._restore_engines()

    def _begin(self, generate_kwargs) -> None:
        """Grant an iteration's first budget to what is held and what is drawn."""
        self.filtered, self.begun = 0, True
        self._generate_kwargs = generate_kwargs
        self._pending = {self._dispatch(group, generate_kwargs): group for group in self.buffer.unfinished()}
        self._draw(self._pending, self._due(), generate_kwargs)

    def _iterate(self, generate_kwargs) -> None:
        """Advance what is held and what is drawn, until a batch is finished or nothing is left."""
        batch = self.args.rollout.batch_size
        if not self.begun:
            self._begin(generate_kwargs)
        self.wait_for_engines()
        self.begun = False
        self.surplus = self._ready() - batch
        # Was the budget too small for what is held, those drawn first go on; the policy is the same.
        while growing := self.buffer.unfinished()[: max(0, batch - self._ready())]:
            pending = {self._dispatch(group, generate_kwargs): group for group in growing}
            self._collect_all(pending, generate_kwargs)

    def _ready(self) -> int:
        return sum(map(len, self.buffer.ready()))

    def _collect_all(self, pending: dict, generate_kwargs) -> None:
        batch = self.args.rollout.batch_size
        with tqdm(total=batch, desc="Generate samples") as bar:
            while pending:
                filtered = self.filtered
                ready, results = self._next_result(pending)
                if results is None:
                    self._redo(pending, ready, generate_kwargs)
                else:
                    self._collect(pending.pop(ready), results, generate_kwargs)
                self._draw(pending, self.filtered - filtered, generate_kwargs)  # one for each that was filtered out
                bar.set_postfix(held=len(self.buffer), refresh=False)
                bar.update(min(batch, len(self.buffer.finished())) - bar.n)

    def _draw(self, pending: dict, count: int, generate_kwargs) -> None:
        """Draw and dispatch up to `count` prompts, adding to `pending`."""
        if self.drained or count == 0:
            return
        prompts, labels, images, indices, self.drained = _collect_prompt_batch(self._dataloader_iter, count)
        for prompt, label, image, index in zip(prompts, labels, images, indices, strict=True):
            trajectories = [Trajectory(seed=seed) for seed in self._seeds()]
            group = Group(index, prompt, label, image, self.version, trajectories, self._link(index))
            self.buffer.add(group)
            self.drawn += 1
            pending[self._dispatch(group, generate_kwargs)] = group
        if self.drained:
            self._dataloader_iter = None
            self._say_what_is_left()

    def _link(self, index: int) -> tuple | None:
        """Link of the next prompt: the previous prompt's if both have one value of baseline_key, else a new one."""
        key = baseline_key(self.args)
        value = None if key is None else self._row(index)[key]
        if value is None:
            return None
        before = self.buffer.groups[-1].link if len(self.buffer) else None
        return before if before is not None and before[0] == value else (value, self.drawn)

    def _seeds(self) -> list[int | None]:
        """Seeds of the next prompt's responses, by its position in the run: they do not depend on the budget."""
        k = self.args.rollout.n_samples_per_prompt
        if not self.args.train.full_determinism_enable:
            return [None] * k
        rng = random.Random(f"{self.args.train.seed} {self.drawn}")
        return [rng.getrandbits(48) for _ in range(k)]

    def _due(self) -> int:
        batch = self.args.rollout.batch_size
        rows, iterations = len(self.prompts_dataloader), self.options.ending_iterations
        left = 0 if self.drained else rows - self.drawn % rows
        share = to_draw_at_the_end(batch=batch, left=left, held=len(self.buffer), iterations=iterations)
        if share is not None:
            return share
        return to_draw(
            batch=batch,
            surplus=self.surplus,
            first=round(self.options.in_flight * batch),
            held=len(self.buffer),
            limit=round(self.options.held_limit * batch),
        )

    def _say_what_is_left(self) -> None:
        held, batch = len(self.buffer), self.args.rollout.batch_size
        if held > batch and not self.options.ending_iterations:
            logger.info(
                f"All prompts of this episode are drawn: after the next step {held - batch} groups are held, which "
                "have the longest responses, and the last iterations train on nothing else. "
                "kimi.rollout.ending_iterations spreads them."
            )

    def _dispatch(self, group: Group, generate_kwargs):
        """Ask the next engine for a segment of each unfinished response of a group; the remote call."""
        self._tokenizer_ref = self._tokenizer_ref or ray.put(self.tokenizer)  # large, and needed by every call
        too_old = self.version - group.version >= self.options.max_age
        return next(self._turn).run.remote(
            advance,
            parts=[Part(part.tokens, part.seed, end=too_old) for part in group.unfinished()],
            sampling_params=self._sampling_params(**generate_kwargs),
            segment_tokens=self.options.segment_tokens,
            repetition=self._repetition(),
            prompt=group.prompt,
            label=group.label,
            images=group.images,
            prompt_tokens=group.inputs and group.inputs.tokens,
            max_length=generate_kwargs["max_len"],
            hf_tokenizer=self._tokenizer_ref,
        )

    @staticmethod
    def _next_result(pending: dict) -> tuple:
        """A remote call that is done, and its result; None if its engine died."""
        [ready], _ = ray.wait(list(pending), num_returns=1)
        return ready, engines.result(ready)

    def _redo(self, pending: dict, failed, generate_kwargs) -> None:
        """Restart what died, and ask again for the segments that went with it: the buffer has what was before."""
        logger.warning("A vLLM engine died; its segments are generated again.")
        lost = [pending.pop(failed)]
        while pending:  # the other engines finish first: all of them are about to load the weights
            ready, results = self._next_result(pending)
            group = pending.pop(ready)
            if results is None:
                lost.append(group)
            else:
                self._collect(group, results, generate_kwargs)
        self._restore_engines()
        pending.update({self._dispatch(group, generate_kwargs): group for group in lost})

    def restart_dead_engines(self) -> bool:
        return self._restarts.revive()

    def _restore_engines(self) -> None:
        self.restart_dead_engines()
        self.restore_engines()
        self.writing = self.version  # also where these are the weights of an update that has just been made

    def _repetition(self) -> dict | None:
        chosen = self.options
        if not chosen.repetition_tokens:
            return None
        return {
            "max_period": chosen.repetition_period,
            "min_tokens": chosen.repetition_tokens,
            "min_count": chosen.repetition_count,
        }

    def _collect(self, group: Group, advanced: tuple[list[dict], PromptInputs | None], generate_kwargs) -> None:
        """Add the new segments to a group; if it is finished now, show it to the plugins and filter it."""
        results, inputs = advanced
        group.inputs = group.inputs or inputs
        for trajectory, result in zip(group.unfinished(), results, strict=True):
            trajectory.extend(result["tokens"], result["log_probs"], self.writing)
            trajectory.finish, trajectory.response = result["finish"], result["response"]
        if not group.finished:
            return
        experiences = self._experiences(group, generate_kwargs)
        self._group_scored(experiences, group.index)
        if self.args.algo.dynamic_filtering_enable and self._filtered_out(experiences):
            self.buffer.discard(group)
            self.filtered += 1

    def _experiences(self, group: Group, generate_kwargs) -> list:
        experiences = [self._experience(group, trajectory, generate_kwargs) for trajectory in group.trajectories]
        row = self._row(group.index)
        for experience in experiences:
            experience.rows = [row]
        return experiences

    def _experience(self, group: Group, trajectory: Trajectory, generate_kwargs):
        """The Experience of a response, as OpenRLHF makes it of one that was generated in one go."""
        prompt = trajectory.response["prompt_tokens"]
        tokens = prompt + trajectory.tokens.tolist()
        log_probs = [0.0] * len(prompt) + trajectory.log_probs.tolist() if len(trajectory.log_probs) else None
        whole = {"observation_tokens": tokens, "action_ranges": [(len(prompt), len(tokens))]}
        logs = trajectory.response["extra_logs"] | self._logs(group, trajectory)
        images = {"images": group.images, "mm_train_inputs": group.inputs and group.inputs.tensors}
        response = trajectory.response | images | whole | {"rollout_log_probs": log_probs, "extra_logs": logs}
        experience = self._process_response_into_experience(response, **generate_kwargs)
        if self.options.train_on == "newest":
            # action_mask [1, n - 1] is about the tokens from the second on.
            experience.action_mask[:, : len(tokens) - trajectory.written_by(self.version) - 1] = 0
        return experience

    def _logs(self, group: Group, trajectory: Trajectory) -> dict[str, float]:
        return {
            CURRENT_SHARE: trajectory.written_by(self.version) / max(1, len(trajectory.tokens)),
            "kimi/segments_mean": float(len(trajectory.segments)),
            "kimi/staleness_mean": float(self.version - trajectory.began(group.version)),
            "kimi/held_groups": float(len(self.buffer)),
            "kimi/held_mib": self.buffer.nbytes() / 2**20,
            "kimi/expired_share": float(trajectory.finish == EXPIRED),
            LOOPED: float(trajectory.finish == "repetition"),
        }
