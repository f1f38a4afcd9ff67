"""Which prompts are drawn, what is held, and what is trained on, with engines that write made-up tokens."""

import io
import itertools
import pickle
import random
from collections import Counter
from dataclasses import replace
from statistics import mean
from types import SimpleNamespace

import pytest
import torch
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator

from kimi_plugins import options
from kimi_plugins.rollout.buffer import EXPIRED
from kimi_plugins.rollout.draw import to_draw, to_draw_at_the_end
from kimi_plugins.rollout.generator import PartialSamplesGenerator
from kimi_plugins.rollout.inputs import PromptInputs

K, BATCH, SEGMENT = 4, 8, 20


def length(row: int, n: int) -> int:
    """Of the n-th response to a prompt: log-normal, median 12 tokens, some above 100."""
    return min(300, 1 + int(random.Random(1000 * row + n).lognormvariate(2.5, 1.0)))


class Loader:
    """What the generator needs of the prompts' data loader; goes on after load_state_dict."""

    sampler = None
    images: list[str] | None = None

    def __init__(self, rows: int, pair=None) -> None:
        self.rows, self.drawn = rows, 0
        self.dataset = SimpleNamespace(row=lambda row: {"pair": pair(row)} if pair else {})

    def __len__(self):
        return self.rows

    def __iter__(self):
        while self.drawn < self.rows:
            row, self.drawn = self.drawn, self.drawn + 1
            yield None, [f"prompt {row}"], [f"label {row}"], [self.images], [row]
        self.drawn = 0


class Call:
    def __init__(self, ready: float, results: tuple[list[dict], PromptInputs | None]) -> None:
        self.ready, self.results = ready, results


class Generator(PartialSamplesGenerator):
    """Engines of random speed; a response's length depends on its prompt and number alone, its score on the prompt.

    pair: function from a row to what names the rows that share a baseline.
    """

    def __init__(self, *, rows=64, speed=0, filtering=False, deaths=0.0, pair=None, **changed) -> None:
        rollout = replace(options.Rollout(), **{"segment_tokens": SEGMENT, "max_age": 1000} | changed)
        advantage = SimpleNamespace(is_correction_level="token", old_log_probs="actor")
        args = SimpleNamespace(
            kimi=SimpleNamespace(
                rollout=rollout,
                policy=options.Policy(linked_baseline=pair is not None),
                sampling=options.Sampling(linked_key="pair" if pair else None),
            ),
            rollout=SimpleNamespace(batch_size=BATCH, n_samples_per_prompt=K),
            train=SimpleNamespace(full_determinism_enable=True, seed=1),
            vllm=SimpleNamespace(enable_sleep=False, max_restarts=0),
            algo=SimpleNamespace(
                dynamic_filtering_enable=filtering, dynamic_filtering_range=(0.1, 0.9), advantage=advantage
            ),
        )
        super().__init__(
            strategy=SimpleNamespace(args=args),
            prompts_dataloader=Loader(rows, pair),
            eval_dataloader=None,
            tokenizer=None,
            vllm_engines=["engine"],
        )
        del self.restore_engines  # the trainer would set it
        self.clock, self.speed = 0.0, random.Random(speed)
        self.weights = 0  # of the engines: their version
        self.deaths, self.restarted, self.restored = deaths, 0, 0  # chance that an engine dies with its segment
        self.scored: list[int] = []
        self.grown: list[int] = []
        self.processed: list[int] = []  # prompts whose images went through the processor

    def _dispatch(self, group, generate_kwargs):
        ended = self.version - group.version >= self.options.max_age
        results = []
        for n, trajectory in enumerate(group.trajectories):
            if trajectory.finish is None:
                before, whole = len(trajectory.tokens), length(group.index, n)
                new = 0 if ended else min(whole - before, SEGMENT)
                self.grown.append(new)
                result = {"tokens": range(before, before + new), "log_probs": [-float(self.weights)] * new}
                if ended or before + new == whole:
                    score = float(group.index % 3 == 0)
                    response = {"prompt": group.prompt, "label": group.label, "prompt_tokens": [7, 7]}
                    response |= {"reward": score, "scores": score, "truncated": ended, "extra_logs": {}}
                    result |= {"finish": EXPIRED if ended else "stop", "response": response}
                results.append({"finish": None, "response": None} | result)
        inputs = None
        if group.images and group.inputs is None:  # as the engine, which is then given the tokens
            self.processed.append(group.index)
            inputs = PromptInputs(torch.tensor([[7, 7]]), {"pixel_values": torch.full((3, 4), float(group.index))})
        return Call(self.clock + self.speed.random(), (results, inputs))

    def _next_result(self, pending):
        ready = min(pending, key=lambda call: call.ready)
        self.clock = ready.ready
        return ready, None if self.speed.random() < self.deaths else ready.results

    def restart_dead_engines(self):
        self.restarted += 1

    def restore_engines(self):
        assert self.restarted == self.restored + 1  # weights only after the engine is there
        self.restored += 1
        self.weights = self.version

    def _group_scored(self, experiences, index):
        self.scored.append(index)

    def batch(self):
        """What generate_samples() returns, and then what the trainer does before the next call."""
        result = self.generate_samples(max_len=1000)
        self.wait_for_engines()
        self.weights = self.version
        return result

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.weights = self.version


def run(generator) -> list:
    """All batches of an episode, each a list of experiences."""
    batches = []
    while True:
        experiences, _, _, exhausted = generator.batch()
        if experiences:
            batches.append(experiences)
        if exhausted:
            return batches


def trained(batches) -> Counter:
    return Counter((e.prompts[0], e.response_length.item()) for batch in batches for e in batch)


EVERY_RESPONSE = Counter((f"prompt {row}", length(row, n)) for row in range(64) for n in range(K))


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("in_flight", [1.0, 2.0, 5.0])
def test_every_response_is_trained_on_once_whatever_its_length(in_flight, overlap):
    """So the trained lengths are those of whole rollouts: the short ones that finish first push no long one out."""
    generator = Generator(in_flight=in_flight, overlap=overlap)
    batches = run(generator)
    assert trained(batches) == EVERY_RESPONSE
    assert sorted(generator.scored) == list(range(64))
    assert [len(batch) for batch in batches] == [BATCH * K] * 8  # every step has its whole batch
    assert max(generator.grown) == SEGMENT
    for batch in batches:  # a prompt's responses are neighbours, as the group baseline needs them
        prompts = [e.prompts[0] for e in batch]
        assert all(len(set(prompts[i : i + K])) == 1 for i in range(0, len(prompts), K))


def test_what_is_trained_on_does_not_depend_on_the_engines_speed():
    def batches(speed):
        return [trained([batch]) for batch in run(Generator(speed=speed))]

    assert batches(1) == batches(2)


@pytest.mark.parametrize("overlap", [False, True])
def test_dying_engines_cost_segments_but_no_response_is_lost_or_doubled(overlap):
    generator = Generator(deaths=0.1, overlap=overlap)
    batches = run(generator)
    assert generator.restored > 5
    assert trained(batches) == EVERY_RESPONSE
    assert sorted(generator.scored) == list(range(64))
    assert [trained([batch]) for batch in batches] == [trained([batch]) for batch in run(Generator())]
    assert sum(generator.grown) > sum(run_of_grown(Generator()))  # what died is written again


def run_of_grown(generator) -> list[int]:
    run(generator)
    return generator.grown


def test_a_response_that_was_cut_is_what_it_would_have_been_in_one_go():
    for experience in (e for batch in run(Generator()) for e in batch):
        n = experience.response_length.item()
        assert experience.sequences[0].tolist() == [7, 7, *range(n)]
        assert experience.action_mask[0].tolist() == [0, *[1] * n]
        segments = [len(list(part)) for _, part in itertools.groupby(experience.rollout_log_probs[0, 1:].tolist())]
        assert sum(segments) == n and max(segments) <= SEGMENT * 8
        assert experience.info["kimi/segments_mean"] == len(segments)


@pytest.mark.parametrize("deaths", [0.0, 0.1])
@pytest.mark.parametrize("overlap", [False, True])
def test_log_probs_and_versions_are_those_of_the_weights_that_wrote(overlap, deaths):
    """With made-up engines whose log-probs are the negated version of their weights."""
    generator = Generator(deaths=deaths, overlap=overlap)
    make, seen = generator._experience, []

    def checked(group, trajectory, generate_kwargs):
        seen.append([-float(version) for version, count in trajectory.segments for _ in range(count)])
        assert trajectory.log_probs.tolist() == seen[-1]
        return make(group, trajectory, generate_kwargs)

    generator._experience = checked
    run(generator)
    assert len({log_prob for written in seen for log_prob in written}) > 4


def test_with_overlap_the_same_batches_come_of_policies_one_update_older():
    """The budgets are the same, but the first ones of all but the first iteration come before the update."""
    now, before = run(Generator()), run(Generator(overlap=True))
    assert [trained([batch]) for batch in before] == [trained([batch]) for batch in now]
    for iteration, (batch, older) in enumerate(zip(now, before, strict=True)):
        for one, other in zip(batch, older, strict=True):
            staleness = one.info["kimi/staleness_mean"].item()
            drawn_in_the_first = staleness == iteration
            assert other.info["kimi/staleness_mean"].item() == staleness + (not drawn_in_the_first)
            assert other.info["kimi/current_share"] <= one.info["kimi/current_share"]
    assert max(e.info["kimi/current_share"].item() for batch in now[1:] for e in batch) == 1.0
    assert max(e.info["kimi/current_share"].item() for batch in before[1:] for e in batch) < 1.0


def test_with_overlap_the_engines_write_between_the_calls_and_stop_before_a_sync():
    generator = Generator(overlap=True)
    generator.generate_samples(max_len=1000)
    begun = len(generator.grown)
    assert generator._pending and not any(group.version == 1 and group.finished for group in generator.buffer.groups)
    generator.wait_for_engines()
    assert not generator._pending and any(group.version == 1 and group.finished for group in generator.buffer.groups)
    assert len(generator.grown) == begun  # all of it was asked for before
    plain = Generator()
    plain.generate_samples(max_len=1000)
    assert not plain._pending


def test_only_what_the_current_policy_wrote_is_trained_on_if_asked():
    """The mask covers it, the length is still that of the whole response, which may have waited for its group."""
    found, version = set(), 0
    batches = zip(run(Generator()), run(Generator(train_on="newest")), strict=True)
    for version, (whole, newest) in enumerate(batches):
        for all_of_it, part in zip(whole, newest, strict=True):
            assert torch.equal(all_of_it.sequences, part.sequences)
            assert all_of_it.response_length == part.response_length
            written_by = all_of_it.rollout_log_probs[0, 1:]
            expected = torch.cat([torch.zeros(1, dtype=torch.long), (written_by == -version).long()])
            assert torch.equal(part.action_mask[0], expected)
            found.add((int(part.info["kimi/segments_mean"]), bool(expected.any())))
    assert len(found) > 4 and {trained_on for _, trained_on in found} == {True, False}


@pytest.mark.slow
@pytest.mark.parametrize("in_flight", [1.0, 2.0, 4.0])
def test_a_prompt_waits_for_as_many_iterations_as_batches_are_held(in_flight):
    """Little's law: what is held after a batch was taken, over what is taken, is how old it gets on average."""
    batches = run(Generator(rows=640, in_flight=in_flight, held_limit=20.0))[10:70]  # without filling and draining

    def logged(name):
        return torch.cat([e.info[name] for batch in batches for e in batch]).mean().item()

    assert logged("kimi/staleness_mean") == pytest.approx(logged("kimi/held_groups") / BATCH, rel=0.05)


def test_an_old_response_is_ended_as_cut_by_length():
    experiences = [e for batch in run(Generator(max_age=3)) for e in batch]
    assert len(experiences) == 64 * K
    assert max(e.info["kimi/staleness_mean"].item() for e in experiences) >= 3
    cut = [e for e in experiences if e.truncated]
    assert 0 < len(cut) < len(experiences) / 4
    assert {e.response_length.item() for e in cut} <= set(range(SEGMENT, 300, SEGMENT))
    assert all(e.info["kimi/expired_share"] == e.truncated for e in experiences)


@pytest.mark.slow
def test_the_buffer_is_bounded():
    generator = Generator(rows=640, in_flight=1.5, held_limit=1.5)
    held = []
    add = generator.buffer.add

    def counted(group):
        add(group)
        held.append(len(generator.buffer))

    generator.buffer.add = counted
    batches = run(generator)
    assert max(held) == 12
    assert [len(batch) for batch in batches] == [BATCH * K] * 80


def test_filtered_groups_are_replaced():
    generator = Generator(filtering=True)  # all scores of a prompt are equal: every group is filtered out
    assert run(generator) == []
    assert sorted(generator.scored) == list(range(64))
    assert len(generator.buffer) == 0


def test_a_resumed_run_goes_on_with_the_very_same_responses():
    whole = [trained([batch]) for batch in run(Generator())]
    first = Generator()
    for _ in range(3):
        first.batch()
    state, drawn = pickle.loads(pickle.dumps(first.state_dict())), first.prompts_dataloader.drawn

    resumed = Generator()
    resumed.load_state_dict(state)
    resumed.prompts_dataloader.drawn = drawn
    assert resumed.version == 3 and resumed.buffer.tokens() == first.buffer.tokens() > 0
    assert [trained([batch]) for batch in run(resumed)] == whole[3:]


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("ending_iterations", [0, 4])
@pytest.mark.parametrize("rows", [3, BATCH, 3 * BATCH - 3, 3 * BATCH])
def test_after_each_step_a_resumed_run_does_the_steps_that_are_left_of_two_episodes(rows, ending_iterations, overlap):
    def generator():
        return Generator(rows=rows, ending_iterations=ending_iterations, overlap=overlap)

    def go_on(generator, episode):
        """[(what a step trained on, the state after it, where its data loader is, the episode to go on with)]."""
        steps = []
        while episode < 2:
            experiences, _, _, exhausted = generator.batch()
            episode += exhausted
            if experiences:
                state = pickle.loads(pickle.dumps(generator.state_dict()))
                steps.append((trained([experiences]), state, generator.prompts_dataloader.drawn, episode))
        return steps

    whole = go_on(generator(), 0)
    expected = Counter((f"prompt {row}", length(row, n)) for row in range(rows) for n in range(K))
    assert sum((step[0] for step in whole), Counter()) == expected + expected
    for done, (_, state, drawn, episode) in enumerate(whole, start=1):
        resumed = generator()
        resumed.load_state_dict(state)
        resumed.prompts_dataloader.drawn = drawn
        assert [step[0] for step in go_on(resumed, episode)] == [step[0] for step in whole[done:]]


def test_the_long_responses_held_at_the_end_can_be_spread():
    """Without it the last two batches are of long responses; spread over eight they are nearly as the others."""

    def excess(**changed):
        batches = run(Generator(rows=640, in_flight=3.0, **changed))
        assert sum(trained(batches).values()) == 640 * K and all(len(batch) == BATCH * K for batch in batches)
        lengths = [mean(e.response_length.item() for e in batch) for batch in batches]
        return mean(lengths[-2:]) / mean(lengths)

    drained, spread = excess(), excess(ending_iterations=12)
    assert drained > 1.5
    assert abs(spread - 1) < (drained - 1) / 2


@pytest.mark.parametrize(
    "left, held, iterations, due",
    [
        (40, 24, 8, 5),  # 64 groups in 8 iterations: 5 new ones each
        (41, 24, 8, None),  # 9 iterations: not yet
        (3, 0, 8, 3),
        (0, 24, 8, None),
        (40, 24, 0, None),
    ],
)
def test_the_share_of_the_last_iterations(left, held, iterations, due):
    assert to_draw_at_the_end(batch=8, left=left, held=held, iterations=iterations) == due


def rows_of(batch) -> list[int]:
    return [int(e.prompts[0].split()[1]) for e in batch[::K]]


@pytest.mark.parametrize("speed", [1, 2])
@pytest.mark.parametrize("in_flight", [1.0, 2.0, 5.0])
def test_a_pair_is_trained_on_when_both_prompts_are_finished(in_flight, speed):
    batches = run(Generator(in_flight=in_flight, speed=speed, pair=lambda row: row // 2))
    assert trained(batches) == EVERY_RESPONSE and len(batches) == 64 // BATCH
    for batch in batches:
        assert all((row ^ 1) in rows_of(batch) for row in rows_of(batch))
        assert [e.rows for e in batch] == [[{"pair": row // 2}] for row in rows_of(batch) for _ in range(K)]


def test_without_a_key_the_same_prompts_come_apart():
    assert any((row ^ 1) not in rows_of(batch) for batch in run(Generator()) for row in rows_of(batch))


def test_linked_prompts_come_together_unless_the_batch_has_room_left():
    """Rows by fours, a pair and two without a value: at most half a pair fills up a batch, the rest comes later."""
    batches = run(Generator(pair=lambda row: row // 4 if row % 4 < 2 else None))
    assert trained(batches) == EVERY_RESPONSE and [len(batch) for batch in batches] == [BATCH * K] * 8
    apart = [row for batch in batches for row in rows_of(batch) if row % 4 < 2 and (row ^ 1) not in rows_of(batch)]
    assert len(apart) <= 4 and len({row // 4 for row in apart}) == len(apart) / 2


def test_a_pair_of_which_one_is_held_goes_on_after_a_resume():
    def generator():
        return Generator(in_flight=1.0, pair=lambda row: row // 2)

    whole = [trained([batch]) for batch in run(generator())]
    first = generator()
    for _ in range(3):
        first.batch()
    held = [group.index for group in first.buffer.groups]
    assert any(group.finished for group in first.buffer.groups) and held
    resumed = generator()
    resumed.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    resumed.prompts_dataloader.drawn = first.prompts_dataloader.drawn
    assert [trained([batch]) for batch in run(resumed)] == whole[3:]


def test_seeds_depend_on_the_prompt_alone():
    def seeds(**changed):
        generator, found = Generator(**changed), {}
        add = generator.buffer.add

        def noted(group):
            add(group)
            found[group.index] = [trajectory.seed for trajectory in group.trajectories]

        generator.buffer.add = noted
        run(generator)
        return found

    one, other = seeds(in_flight=1.0), seeds(in_flight=5.0, speed=3)
    assert one == other and len({seed for k in one.values() for seed in k}) == 64 * K


def test_a_checkpoint_of_whole_rollouts_has_no_buffer():
    generator = Generator()
    generator.load_state_dict({})
    assert trained(run(generator)) == EVERY_RESPONSE


def test_the_next_episode_begins_anew():
    generator = Generator()
    assert trained(run(generator)) == trained(run(generator)) == EVERY_RESPONSE


def test_fewer_prompts_than_a_batch():
    assert [len(batch) for batch in run(Generator(rows=3))] == [3 * K]


@pytest.mark.parametrize(
    "surplus, held, due",
    [
        (None, 0, 128),  # the first iteration fills up
        (16, 70, 64),  # 16 left over, two standard deviations of 64: a batch for a batch
        (0, 70, 68),
        (-24, 70, 74),
        (40, 70, 58),
        (400, 450, 0),
        (400, 10, 54),  # at least what is missing to a batch
        (0, 250, 6),  # not above the limit
        (0, 256, 0),
    ],
)
def test_how_many_prompts_are_drawn(surplus, held, due):
    assert to_draw(batch=64, surplus=surplus, first=128, held=held, limit=256) == due


@pytest.mark.slow
def test_the_surplus_settles_at_two_standard_deviations():
    """Then an iteration seldom falls short, which would cost few groups a second budget on idle engines."""
    generator = Generator(rows=2000, in_flight=1.0)
    surplus = []
    for _ in range(150):
        generator.batch()
        surplus.append(generator.surplus)
    assert surplus[0] < 0
    assert mean(surplus[50:]) == pytest.approx(2 * BATCH**0.5, abs=1.0)
    assert mean(value < 0 for value in surplus[50:]) < 0.1


def with_images(**changed):
    generator = Generator(**changed)
    generator.prompts_dataloader.images = ["a.png"]
    return generator


def test_an_image_is_processed_once_a_prompt_and_held_once():
    generator = with_images()
    first = generator.batch()[0]
    [pixels] = {id(e.mm_train_inputs[0]["pixel_values"]) for e in first[:K]}  # one copy for the k responses
    assert first[0].images == [["a.png"]] and id(first[K].mm_train_inputs[0]["pixel_values"]) != pixels
    batches = [first, *run(generator)]
    assert sorted(generator.processed) == list(range(64))
    for experience in (e for batch in batches for e in batch):
        row = float(experience.prompts[0].split()[1])
        assert experience.mm_train_inputs[0]["pixel_values"].unique().tolist() == [row]


def test_held_images_are_counted():
    plain, seen = Generator(), with_images()
    plain.batch(), seen.batch()
    assert len(plain.buffer) == len(seen.buffer) > 0
    assert seen.buffer.nbytes() - plain.buffer.nbytes() == len(seen.buffer) * (3 * 4 * 4 + 2 * 8)


def test_a_resume_with_images_in_the_buffer_is_exact():
    whole, first = with_images(), with_images()
    expected = [whole.batch()[0] for _ in range(3)]
    first.batch()
    state = io.BytesIO()
    torch.save(first.state_dict(), state)
    state.seek(0)
    resumed = with_images()
    resumed.prompts_dataloader.drawn = first.prompts_dataloader.drawn
    resumed.load_state_dict(torch.load(state, weights_only=False))
    for batch in expected[1:]:
        for a, b in zip(batch, resumed.batch()[0], strict=True):
            assert torch.equal(a.sequences, b.sequences)
            assert torch.equal(a.mm_train_inputs[0]["pixel_values"], b.mm_train_inputs[0]["pixel_values"])
    assert not set(resumed.processed) & set(first.processed)  # what was held did not run again


def test_a_run_with_whole_rollouts_refuses_a_checkpoint_that_holds_unfinished_ones():
    first = Generator()
    first.batch()
    state = pickle.loads(pickle.dumps(first.state_dict()))
    assert len(first.buffer) > 0
    whole = SamplesGenerator(first.strategy, None, None, None, [])
    with pytest.raises(
        ValueError, match=rf"holds {len(first.buffer)} prompts .*kimi.rollout.segment_tokens \(it was 20"
    ):
        whole.load_state_dict(state)
    first.buffer.groups.clear()
    whole.load_state_dict(first.state_dict())
