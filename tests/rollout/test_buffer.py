"""Trajectories that grow, and what the buffer takes in memory."""

import io

import numpy as np
import pytest
import torch

from kimi_plugins.rollout.buffer import Buffer, Group, Trajectory


def test_a_trajectory_grows_by_segments():
    trajectory = Trajectory()
    assert trajectory.written_by(0) == 0
    trajectory.extend([5, 6], [-0.5, -0.25], version=3)
    trajectory.extend([7], [-1.0], version=3)  # the same policy goes on: the same segment
    trajectory.extend([], [], version=4)
    trajectory.extend([8, 9], [-2.0, -3.0], version=5)
    assert trajectory.tokens.tolist() == [5, 6, 7, 8, 9]
    assert trajectory.log_probs.tolist() == [-0.5, -0.25, -1.0, -2.0, -3.0]
    assert trajectory.segments == [(3, 3), (5, 2)]
    assert [trajectory.written_by(version) for version in (3, 5, 6)] == [0, 2, 0]


def test_as_many_log_probs_as_tokens():
    with pytest.raises(ValueError, match="2 tokens with 1 log-probs"):
        Trajectory().extend([5, 6], [-0.5], version=0)
    trajectory = Trajectory()
    trajectory.extend([5], None, version=0)
    assert len(trajectory.log_probs) == 0


def group(index, *finish):
    return Group(index, "p", "l", None, 0, [Trajectory(finish=reason) for reason in finish])


def test_finished_groups_leave_in_the_order_they_were_drawn():
    buffer = Buffer()
    for index, finish in enumerate([("stop", None), ("stop", "length"), (None, None), ("stop",), ("repetition",)]):
        buffer.add(group(index, *finish))
    assert [g.index for g in buffer.unfinished()] == [0, 2]
    assert [len(g.unfinished()) for g in buffer.unfinished()] == [1, 2]
    assert [g.index for g in buffer.take(2)] == [1, 3]
    assert [g.index for g in buffer.groups] == [0, 2, 4]
    assert [g.index for g in buffer.take(5)] == [4]


def linked(*described):
    """A buffer of groups (link, whether it is finished), numbered from 0."""
    buffer = Buffer()
    for index, (link, finished) in enumerate(described):
        one = group(index, "stop" if finished else None)
        one.link = None if link is None else (link, 0)
        buffer.add(one)
    return buffer


@pytest.mark.parametrize(
    "described, count, expected",
    [
        ([("a", True), ("a", True), (None, True)], 2, [0, 1]),
        ([("a", True), ("a", False), (None, True), (None, True)], 2, [2, 3]),  # a waits for its other half
        ([(None, True), ("a", True), ("a", True), (None, True)], 2, [0, 3]),  # a does not fit any more
        ([("a", True), ("a", True), ("b", True), ("b", True), (None, False)], 3, [0, 1, 2]),  # nothing else fits
        ([("a", True), (None, True), (None, True), ("b", True)], 3, [0, 1, 2]),
        ([(None, True), ("a", True)], 1, [0]),  # more of a may come
        ([(None, True), ("a", True)], 2, [0, 1]),
        ([("a", True), ("a", False)], 2, [0]),
        ([("a", True), ("b", True), ("a", True), (None, False)], 2, [0, 2]),
        ([], 2, []),
    ],
)
def test_linked_groups_leave_together_if_they_can(described, count, expected):
    buffer = linked(*described)
    assert [g.index for g in buffer.take(count)] == expected
    assert [g.index for g in buffer.groups] == [n for n in range(len(described)) if n not in expected]


def test_a_token_takes_eight_bytes_also_in_the_checkpoint():
    """10,000 responses of 32k tokens: 2.6 GB."""
    buffer = Buffer()
    rng = np.random.default_rng(0)
    tokens = 32 * 1024
    for index in range(20):
        entry = group(index, None)
        entry.trajectories[0].extend(rng.integers(150_000, size=tokens), rng.random(tokens), version=1)
        buffer.add(entry)
    assert buffer.tokens() == 20 * tokens
    assert buffer.nbytes() == 8 * buffer.tokens()
    file = io.BytesIO()
    torch.save(buffer.state_dict(), file)  # as the checkpoint does
    assert file.tell() < 1.01 * buffer.nbytes()

    file.seek(0)
    again = Buffer()
    again.load_state_dict(torch.load(file, weights_only=False))
    for one, other in zip(buffer.trajectories(), again.trajectories(), strict=True):
        assert np.array_equal(one.tokens, other.tokens) and one.tokens.dtype == other.tokens.dtype
        assert np.array_equal(one.log_probs, other.log_probs) and one.segments == other.segments
