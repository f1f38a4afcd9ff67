"""The sampler that the data loader draws prompts from: curriculum and priorities together (k1.5 §2.3.4)."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from kimi_plugins.sampling import curriculum
from kimi_plugins.sampling.prioritized import SuccessRates, draw, whole_sets

CANDIDATES = 4  # times the batch


class PromptSampler(Sampler[int]):
    """Row numbers of prompts, as many an episode as there are prompts.

    A batch of batch_size prompts, one step's, is drawn when its first prompt is asked for, so that all success rates
    known by then count. It goes on where it stood: an episode is only left at its end.

    Args:
        n: number of prompts.
        batch_size: prompts a step.
        options: a kimi_plugins.options.Sampling, or a namespace like it.
        order: row numbers from easy to hard, int32 [n]; needed by a curriculum.
        linked: of prioritized.next_linked, int32 [n]: rows drawn into the same batch.
        data_source: the data set of the rows, under the name that torch's samplers have for it.

    Raises:
        ValueError: no prompts.
    """

    def __init__(
        self,
        n: int,
        *,
        batch_size: int,
        seed: int,
        options,
        order: np.ndarray | None = None,
        linked: np.ndarray | None = None,
        data_source=None,
    ) -> None:
        if n < 1:
            raise ValueError("the data set has no prompts")
        self.n, self.batch_size, self.options, self.order = n, batch_size, options, order
        self.linked, self.data_source = linked, data_source
        self.rates = SuccessRates(n, options.ema_decay)
        self.rng = np.random.default_rng(seed)
        self.step = 0  # batches drawn, over all episodes
        self.drawn = 0  # prompts of this episode
        self.batch: list[int] = []  # what is left of the batch

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        while self.drawn < self.n:
            if not self.batch:
                self.step += 1
                self.batch = self._draw_batch()
            self.drawn += 1
            yield self.batch.pop(0)
        self.drawn = 0

    def observe(self, row: int, success: float) -> None:
        """Tell how a prompt fared: the mean score in [0, 1] of its responses."""
        self.rates.observe(row, success, self.step)

    def state_dict(self) -> dict:
        """A snapshot from which load_state_dict goes on exactly."""
        return {
            "rng": self.rng.bit_generator.state,
            "step": self.step,
            "drawn": self.drawn,
            "batch": list(self.batch),
            "success": self.rates.success.copy(),
            "seen": self.rates.seen.copy(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Raises ValueError if the state is of a data set of another size."""
        if len(state["success"]) != self.n:
            raise ValueError(
                f"the checkpoint's sampler has {len(state['success'])} prompts and the data set {self.n}: resume with "
                "the same data set, data.max_samples and data.prompt_split"
            )
        self.rng.bit_generator.state = state["rng"]
        self.step, self.drawn, self.batch = state["step"], state["drawn"], list(state["batch"])
        self.rates.success, self.rates.seen = state["success"].copy(), state["seen"].copy()

    def _draw_batch(self) -> list[int]:
        chosen = self.options
        low, high = curriculum.window(
            self.step,
            self.n,
            schedule=chosen.curriculum,
            curriculum_steps=chosen.curriculum_steps,
            stages=chosen.stages,
            hard_from=chosen.hard_from,
            hard_share=chosen.hard_share,
        )

        def weights(indices: np.ndarray) -> np.ndarray:
            rows = self._rows(indices)
            return self.rates.weights(
                rows, self.step, rule=chosen.priority, min_weight=chosen.min_weight, half_life=chosen.half_life
            )

        # Of more rows than the batch has, so that some fill what a larger set of linked rows leaves.
        count = self.batch_size if self.linked is None else CANDIDATES * self.batch_size
        rows = self._rows(np.array(draw(self.rng, low, high, count, weights))).tolist()
        return rows if self.linked is None else whole_sets(rows, self.linked, self.batch_size)

    def _rows(self, indices: np.ndarray) -> np.ndarray:
        return indices if self.order is None else self.order[indices]
