"""The sampler under the data loader that OpenRLHF puts it in."""

import copy
import itertools
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from torchdata.stateful_dataloader import StatefulDataLoader

from kimi_plugins import options
from kimi_plugins.plugin import Sampling
from kimi_plugins.sampling.sampler import PromptSampler
from kimi_plugins.sampling.settings import build_sampler, problems


def make(n=50, batch=8, order=None, seed=0, **changed):
    chosen = replace(options.Sampling(), **changed)
    return PromptSampler(n, batch_size=batch, seed=seed, options=chosen, order=order)


def loader_of(sampler):
    return StatefulDataLoader(range(sampler.n), batch_size=1, sampler=sampler, collate_fn=lambda items: items[0])


def run(loader, sampler, stop=None, state_at=None):
    """The rows of `stop` draws over episodes, each solved or not as it is drawn, and the state at one of them."""
    rows, state, iterator = [], None, None
    while len(rows) < stop:
        iterator = iter(loader) if iterator is None else iterator
        try:
            row = next(iterator)
        except StopIteration:
            iterator = None
            continue
        rows.append(row)
        sampler.observe(row, float(row % 3 == 0))
        if len(rows) == state_at:
            state = loader.state_dict()
    return rows, state


def test_an_episode_has_as_many_draws_as_there_are_prompts():
    sampler = make(n=50)
    assert len(sampler) == len(list(sampler)) == len(list(sampler)) == 50
    assert sampler.step == 13  # 100 draws in batches of 8


@pytest.mark.parametrize("drawn", [1, 5, 8, 37, 49, 50, 51, 100, 133])
def test_a_resumed_loader_goes_on_exactly(drawn):
    sampler = make(half_life=5.0)
    rows, state = run(loader_of(sampler), sampler, stop=160, state_at=drawn)
    again = make(half_life=5.0, seed=99)
    loader = loader_of(again)
    loader.load_state_dict(copy.deepcopy(state))
    assert run(loader, again, stop=160 - drawn)[0] == rows[drawn:]


def test_a_state_at_the_end_of_an_episode():
    sampler = make(n=16)
    loader = loader_of(sampler)
    assert len(list(loader)) == 16  # the iterator has said that it is finished
    state = copy.deepcopy(loader.state_dict())
    expected = list(loader)
    again = make(n=16, seed=3)
    resumed = loader_of(again)
    resumed.load_state_dict(state)
    assert list(resumed) == expected


def test_a_state_is_a_snapshot():
    sampler = make()
    next(iter(sampler))
    state = sampler.state_dict()
    before = copy.deepcopy(state)
    sampler.observe(0, 1.0)
    np.testing.assert_equal(state, before)


def test_a_state_of_other_data():
    with pytest.raises(ValueError, match="has 50 prompts and the data set 60"):
        make(n=60).load_state_dict(make(n=50).state_dict())


def test_what_is_observed_counts_for_the_next_batch():
    sampler = make(n=20, batch=10, min_weight=1e-6)
    for row in itertools.islice(iter(sampler), 10):
        sampler.observe(row, 1.0)
    solved = set(np.flatnonzero(~np.isnan(sampler.rates.success)))
    assert solved.isdisjoint(itertools.islice(iter(sampler), 10))


def test_curriculum_and_priorities_together():
    order = np.arange(100, dtype=np.int32)[::-1].copy()  # row 99 is the easiest
    sampler = make(
        n=100, batch=10, order=order, curriculum="hard_after", hard_from=11, hard_share=0.3, min_weight=1e-6
    )
    for row in sampler:
        sampler.observe(row, float(row % 2))
    hard = list(itertools.islice(sampler, 10))
    assert max(hard) < 30 and not any(sampler.rates.success[row] == 1 for row in hard)


def settings(**changed):
    return SimpleNamespace(
        kimi=SimpleNamespace(sampling=replace(options.Sampling(), **changed)),
        data=SimpleNamespace(
            dataloader_num_workers=0,
            input_key="input",
            label_key=None,
            image_key="images",
            prompt_split="train",
            apply_chat_template=False,
        ),
        eval=SimpleNamespace(dataset=None, split="train"),
        rollout=SimpleNamespace(batch_size=4),
        train=SimpleNamespace(seed=1),
    )


def test_the_hooks_build_and_feed_it():
    dataset = Dataset.from_list([{"input": str(n), "difficulty": n} for n in range(12)])
    sampler = Sampling().openrlhf_prompt_sampler(
        dataset, settings(curriculum="stages", curriculum_steps=10**9, stages=3)
    )
    assert sorted(itertools.islice(iter(sampler), 4)) == [0, 1, 2, 3]
    group = [SimpleNamespace(scores=torch.tensor([score]), rewards=None, info={}) for score in (1.0, 0.0, 0.0, 0.0)]
    Sampling().openrlhf_group_scored(group, 7, sampler)
    assert sampler.rates.success[7] == 0.25
    assert build_sampler(dataset, settings(priority="uniform")) is None
    Sampling().openrlhf_group_scored(group, 7, object())  # OpenRLHF's own sampler


def test_a_column_that_is_not_there():
    with pytest.raises(ValueError, match="no column 'difficulty', only input"):
        build_sampler(Dataset.from_list([{"input": "a"}]), settings(curriculum="stages"))


@pytest.mark.parametrize(
    "difficulties, told",
    [
        ([1, 2, 3], None),
        ([1, float("nan"), 3], "row 2: nan is not a difficulty"),
        ([1, None, 3], "row 2: None is not a difficulty"),
        ([2, 2, 2], "equally difficult"),
        ([], "row 1: None is not a difficulty"),
    ],
)
def test_difficulties_are_looked_at_before_the_run_starts(tmp_path, difficulties, told):
    path = tmp_path / "prompts.jsonl"
    rows = [{"input": "x", "difficulty": value} for value in difficulties] or [{"input": "x"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    args = settings(curriculum="stages")
    args.data.prompt_dataset, args.data.max_samples = str(path), 3
    found = Sampling().openrlhf_check_machine(args, "train")
    assert (found == []) if told is None else (len(found) == 1 and told in found[0])
    args.kimi.sampling = options.Sampling()  # no curriculum
    assert Sampling().openrlhf_check_machine(args, "train") == []


@pytest.mark.parametrize(
    "name, value",
    [
        ("min_weight", 0.0),
        ("min_weight", 1.1),
        ("ema_decay", 1.0),
        ("half_life", 0.0),
        ("half_life", math.nan),
        ("curriculum_steps", 0),
        ("stages", 1),
        ("hard_from", 0),
        ("hard_share", 1.0),
    ],
)
def test_settings_that_make_no_sense_are_refused(name, value):
    assert problems(settings()) == []
    curriculum = {
        "curriculum_steps": "stages",
        "stages": "stages",
        "hard_from": "hard_after",
        "hard_share": "hard_after",
    }
    [problem] = problems(settings(**{name: value, "curriculum": curriculum.get(name, "none")}))
    assert problem.startswith(f"kimi.sampling.{name} is {value}: it must be")


@pytest.mark.parametrize(
    "changed, remedy",
    [
        ({"half_life": 5.0, "priority": "uniform"}, {"priority": "failure"}),
        ({"difficulty_key": "level"}, {"curriculum": "stages"}),
        ({"harder": "lower"}, {"curriculum": "continuous"}),
        ({"stages": 3, "curriculum": "hard_after"}, {"curriculum": "continuous"}),
        ({"hard_share": 0.3, "curriculum": "stages"}, {"curriculum": "hard_after"}),
    ],
)
def test_settings_without_effect_are_refused(changed, remedy):
    name = next(iter(changed))
    [problem] = problems(settings(**changed))
    assert problem.startswith(f"kimi.sampling.{name} is {changed[name]}: it has no effect ")
    assert problems(settings(**changed | remedy)) == []


def test_duplicate_prompts_are_rows_of_their_own_and_told(caplog):
    build_sampler(Dataset.from_list([{"input": text} for text in "abc"]), settings())
    assert caplog.text == ""
    sampler = build_sampler(Dataset.from_list([{"input": text} for text in "abcaba"]), settings())
    assert "3 of 6 prompts" in caplog.text
    assert len(sampler) == 6
    sampler.observe(0, 1.0)
    assert np.isnan(sampler.rates.success[3])


def test_workers_that_draw_ahead():
    args = settings()
    args.data.dataloader_num_workers = 2
    assert "data.dataloader_num_workers is 2" in problems(args)[0]


def test_no_prompts():
    with pytest.raises(ValueError, match="no prompts"):
        make(n=0)


def test_one_question_asked_of_many_images_is_no_duplicate(caplog):
    rows = [{"input": "What?", "images": [f"{n}.png"]} for n in (1, 2, 3, 1)]
    build_sampler(Dataset.from_list(rows), settings())
    assert "1 of 4 prompts" in caplog.text


def test_rows_with_the_same_value_come_in_one_batch():
    pairs = [{"input": str(n), "pair": f"p{n // 2}" if n < 40 else None} for n in range(60)]
    sampler = build_sampler(Dataset.from_list(pairs), settings(linked_key="pair", priority="failure"))
    seen, whole = set(), 0
    drawn = [row for _ in range(4) for row in sampler]  # episodes
    for batch in zip(*[iter(drawn)] * 4, strict=True):
        assert len(set(batch)) == 4
        twins = [row for row in batch if row < 40]
        assert all((row ^ 1) in batch for row in twins)
        whole += sum((row ^ 1) in batch for row in twins)
        seen |= set(batch)
    assert whole > 60 and len(seen) > 50


def test_uniform_sampling_can_keep_rows_together_too():
    rows = [{"input": str(n), "pair": n // 2} for n in range(16)]
    sampler = build_sampler(Dataset.from_list(rows), settings(linked_key="pair", priority="uniform"))
    for batch in zip(*[iter(list(sampler))] * 4, strict=True):
        assert {row ^ 1 for row in batch} == set(batch)
    with pytest.raises(ValueError, match="kimi.sampling.linked_key: the data set has no column 'twin', only input"):
        build_sampler(Dataset.from_list(rows), settings(linked_key="twin"))


@pytest.mark.parametrize("size, batch", [(3, 32), (2, 7), (3, 8), (5, 12)])
def test_linked_rows_are_never_split_whatever_the_batch(size, batch):
    rows = [{"input": str(n), "set": n // size} for n in range(36 * size)]
    args = settings(linked_key="set", priority="uniform")
    args.rollout.batch_size = batch
    sampler = build_sampler(Dataset.from_list(rows), args)
    drawn = [row for _ in range(batch) for row in sampler]
    assert len(set(drawn)) > 0.8 * 36 * size
    for found in zip(*[iter(drawn)] * batch, strict=False):
        sets = {row // size for row in found}
        assert all(n * size + member in found for n in sets for member in range(size))
        names = [row // size for row in found]
        assert len(list(itertools.groupby(names))) == len(sets) == batch // size  # one behind the other


def test_single_rows_fill_what_sets_leave():
    rows = [{"input": str(n), "set": n // 3 if n < 30 else None} for n in range(60)]
    args = settings(linked_key="set", priority="uniform")
    args.rollout.batch_size = 8
    for found in zip(*[iter(list(build_sampler(Dataset.from_list(rows), args)))] * 8, strict=False):
        assert len(set(found)) == 8
        assert all(3 * (row // 3) + member in found for row in found if row < 30 for member in range(3))


def test_more_equal_values_than_a_batch_holds_are_refused():
    rows = [{"input": str(n), "source": "photos" if n < 5 else None} for n in range(16)]
    with pytest.raises(ValueError, match="linked_key: 5 rows have the source 'photos', more than .*batch_size 4"):
        build_sampler(Dataset.from_list(rows), settings(linked_key="source"))
    build_sampler(Dataset.from_list(rows[1:]), settings(linked_key="source"))
