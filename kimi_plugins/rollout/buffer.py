"""The buffer of partial rollouts: groups whose responses are not all finished, and finished ones not yet trained on.

Plain data, kept small (8 bytes a token: an int32 and the float32 log-prob; an image's inputs once a prompt) and saved
with the checkpoint.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from kimi_plugins.rollout.inputs import PromptInputs

EXPIRED = "expired"  # the finish of a response that became too old


@dataclass
class Trajectory:
    """One response so far.

    tokens: [n] int32, what was generated. log_probs: [n] float32, of the policy that wrote them, or empty.
    segments: (policy version, number of tokens) in the order they were written; versions rise.
    finish: "stop", "length", "repetition", or EXPIRED, a kind of length, when it is finished; else None.
    response: when it is finished, what OpenRLHF's executor returned (prompt, its tokens, reward, scores, …).
    seed: of its sampling, or None.
    """

    tokens: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    log_probs: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    segments: list[tuple[int, int]] = field(default_factory=list)
    finish: str | None = None
    response: dict = field(default_factory=dict)
    seed: int | None = None

    def extend(self, tokens, log_probs, version: int) -> None:
        """Append what policy `version` wrote; log_probs: as many as tokens, or None if the run keeps none."""
        if log_probs is not None and len(log_probs) != len(tokens):
            raise ValueError(f"{len(tokens)} tokens with {len(log_probs)} log-probs")
        if len(tokens) == 0:
            return
        self.tokens = np.concatenate([self.tokens, np.asarray(tokens, np.int32)])
        if log_probs is not None:
            self.log_probs = np.concatenate([self.log_probs, np.asarray(log_probs, np.float32)])
        if self.segments and self.segments[-1][0] == version:
            version, length = self.segments.pop()
            self.segments.append((version, length + len(tokens)))
        else:
            self.segments.append((version, len(tokens)))

    def began(self, otherwise: int) -> int:
        """Version of the policy that wrote the first token; `otherwise` if there is none."""
        return self.segments[0][0] if self.segments else otherwise

    def written_by(self, version: int) -> int:
        """Number of tokens at the end of the response that policy `version` wrote."""
        return self.segments[-1][1] if self.segments and self.segments[-1][0] == version else 0


@dataclass
class Group:
    """A prompt with its k trajectories. index: its row in the data set; version: of the policy when it was drawn.

    inputs: of a prompt with images, after its first segment; one copy for all its responses.

    link: equal for the groups of linked prompts, which are trained on together; None: the prompt has no link.
    """

    index: int
    prompt: str
    label: str
    images: list | None
    version: int
    trajectories: list[Trajectory]
    link: tuple | None = None
    inputs: PromptInputs | None = None

    @property
    def finished(self) -> bool:
        return all(trajectory.finish for trajectory in self.trajectories)

    def unfinished(self) -> list[Trajectory]:
        return [trajectory for trajectory in self.trajectories if trajectory.finish is None]


class Buffer:
    """Groups in the order they were drawn."""

    def __init__(self) -> None:
        self.groups: list[Group] = []

    def __len__(self) -> int:
        return len(self.groups)

    def add(self, group: Group) -> None:
        self.groups.append(group)

    def unfinished(self) -> list[Group]:
        return [group for group in self.groups if not group.finished]

    def finished(self) -> list[Group]:
        return [group for group in self.groups if group.finished]

    def ready(self) -> list[list[Group]]:
        """The sets of linked groups that are finished; not the newest set, of which more may be drawn."""
        sets: dict = {}
        for group in self.groups:
            sets.setdefault(group.link or id(group), []).append(group)
        newest = self.groups[-1].link if self.groups else None
        return [linked for key, linked in sets.items() if key != newest and all(group.finished for group in linked)]

    def take(self, count: int) -> list[Group]:
        """Remove and return `count` finished groups, or all if they are fewer: whole sets of linked groups, those that
        have waited longest first; part of a set where whole ones do not fill the batch."""
        taken: list[Group] = []
        for linked in self.ready():
            if len(taken) + len(linked) <= count:
                taken += linked
        chosen = set(map(id, taken))
        taken += [group for group in self.finished() if id(group) not in chosen][: count - len(taken)]
        for group in taken:
            self.discard(group)
        return taken

    def discard(self, group: Group) -> None:
        self.groups = [other for other in self.groups if other is not group]

    def trajectories(self) -> Iterator[Trajectory]:
        for group in self.groups:
            yield from group.trajectories

    def tokens(self) -> int:
        return sum(len(trajectory.tokens) for trajectory in self.trajectories())

    def nbytes(self) -> int:
        """Bytes of the tokens, log-probs and images' inputs held."""
        inputs = sum(group.inputs.nbytes() for group in self.groups if group.inputs)
        return inputs + sum(part.tokens.nbytes + part.log_probs.nbytes for part in self.trajectories())

    def state_dict(self) -> dict:
        """Shares the arrays with the buffer: they are replaced, never changed. As tensors, which torch.save writes as
        they are; NumPy arrays it would pickle as text, eight times their size in memory."""
        return {
            "groups": [
                vars(group)
                | {
                    "trajectories": [_as_tensors(trajectory) for trajectory in group.trajectories],
                    "inputs": group.inputs and vars(group.inputs),
                }
                for group in self.groups
            ]
        }

    def load_state_dict(self, state: dict) -> None:
        self.groups = [
            Group(
                **group
                | {
                    "trajectories": [Trajectory(**trajectory) for trajectory in group["trajectories"]],
                    "inputs": PromptInputs(**group["inputs"]) if group.get("inputs") else None,
                }
            )
            for group in state["groups"]
        ]
        for trajectory in self.trajectories():
            trajectory.tokens = np.asarray(trajectory.tokens)
            trajectory.log_probs = np.asarray(trajectory.log_probs)


def _as_tensors(trajectory: Trajectory) -> dict:
    arrays = {"tokens": trajectory.tokens, "log_probs": trajectory.log_probs}
    return vars(trajectory) | {name: torch.from_numpy(array) for name, array in arrays.items()}
