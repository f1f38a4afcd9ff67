"""An auxiliary SFT loss beside the policy's (PTX, as K2 has one): rows of a data set in every optimizer step.

Its gradient is accumulated before that of the step's rollouts, in forward and backward passes of its own.
"""

import random
from collections.abc import Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kimi_plugins.policy import ptx_rows

TokenisedRow = tuple[Tensor, Tensor]  # tokens [S], and bool [S − 1]: whether the next token is one of the response


def rows_of_step(count: int, size: int, taken: int, seed: int) -> list[int]:
    """The numbers of an optimizer step's rows: every row once, in a new order, and so on.

    count: rows of the data set. size: rows a step. taken: optimizer steps that the run has taken before.
    """
    places = range(taken * size, (taken + 1) * size)
    return [_order(count, seed, place // count)[place % count] for place in places]


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> list[int]:
    return random.Random(f"{seed} {epoch}").sample(range(count), count)


def padded(rows: Sequence[TokenisedRow]) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens [B, S], attention mask [B, S], mask of the response's log-probs [B, S − 1] of rows, padded at the end."""
    pad = torch.nn.utils.rnn.pad_sequence
    tokens = pad([tokens for tokens, _ in rows], batch_first=True)
    attention = pad([torch.ones_like(tokens) for tokens, _ in rows], batch_first=True)
    return tokens, attention, pad([trained for _, trained in rows], batch_first=True)


class AuxiliaryLoss:
    """coef × the mean negative log-likelihood of the response tokens of `size` rows, in each optimizer step.

    Args:
        actor: OpenRLHF's, whose model is the DeepSpeed engine.
        rows: the tokenised data set, the same on all ranks.
        size: rows an optimizer step, of all ranks together; a multiple of their number.
        micro: rows of a forward pass at most.
    """

    def __init__(
        self, actor: Any, rows: Sequence[TokenisedRow], *, coef: float, size: int, micro: int, seed: int
    ) -> None:
        self.actor, self.rows = actor, rows
        self.coef, self.size, self.micro, self.seed = coef, size, micro, seed

    def add_gradient(self) -> float:
        """Add the gradient to that of the next optimizer step, before its micro-batches do so; returns the loss, nats.

        DeepSpeed divides what it is given by the number of micro-batches of an optimizer step and averages over the
        ranks. The likelihood is that at temperature 1, whatever the rollouts'.

        Raises:
            ValueError: the loss is not finite.
        """
        actor, engine, world = self.actor, self.actor.model, dist.get_world_size()
        share = self.size // world
        numbers = rows_of_step(len(self.rows), self.size, engine.global_steps, self.seed)
        own = numbers[dist.get_rank() * share :][:share]
        device = next(engine.parameters()).device
        batches = [
            [part.to(device) for part in padded([self.rows[number] for number in own[start : start + self.micro]])]
            for start in range(0, share, self.micro)
        ]
        tokens = _sum_over_ranks(torch.stack([trained.sum() for *_, trained in batches]).sum())
        temperature, actor.temperature, total = actor.temperature, 1.0, torch.zeros((), device=device)
        try:
            for sequences, attention, trained in batches:
                log_probs, _ = actor(sequences, trained, attention_mask=attention, return_output=True)
                loss = -(log_probs.float() * trained).sum() / tokens
                engine.set_gradient_accumulation_boundary(False)
                engine.backward(self.coef * loss * world * engine.gradient_accumulation_steps())
                total += loss.detach()
        finally:
            actor.temperature = temperature
        mean = _sum_over_ranks(total).item()
        if not -float("inf") < mean < float("inf"):
            raise ValueError(
                f"the loss of kimi.policy.ptx_dataset is {mean} after {engine.global_steps} optimizer steps, and "
                "would make all weights NaN; lower kimi.policy.ptx_coef or the learning rate. The checkpoints are "
                "untouched."
            )
        return mean


def _sum_over_ranks(value: Tensor) -> Tensor:
    value = value.detach().float()
    dist.all_reduce(value)
    return value


def load(actor: Any, args: Any) -> AuxiliaryLoss:
    """The auxiliary loss of a run, its rows tokenised as `openrlhf sft` does: prompt, response, EOS.

    Raises:
        ValueError: rows cannot be used; the message names the key, the row and the fix.
    """
    from datasets import Dataset
    from openrlhf.datasets import SFTDataset
    from openrlhf.utils import get_tokenizer

    policy, data = args.kimi.policy, args.data
    found: dict[str, list[str]] = {"input": [], "output": []}
    for row, problem in ptx_rows.rows(args):
        if problem is not None:
            raise ValueError(f"kimi.policy.ptx_dataset: {row.file} row {row.number}: {problem}")
        prompt, response = ptx_rows.texts(row.value, args)
        found["input"].append(prompt)
        found["output"].append(response)
    if not found["input"]:
        raise ValueError(f"kimi.policy.ptx_dataset: {policy.ptx_dataset} holds no rows; give a file with data")
    keys = SimpleNamespace(input_key="input", output_key="output", apply_chat_template=data.apply_chat_template)
    tokenizer = get_tokenizer(
        args.actor.model_name_or_path,
        None,
        "right",
        SimpleNamespace(args=args),
        use_fast=not data.disable_fast_tokenizer,
        is_vlm=False,
    )
    tokenised = SFTDataset(
        Dataset.from_dict(found),
        tokenizer,
        data.max_len + 1,  # what is cut off is seen
        SimpleNamespace(args=SimpleNamespace(data=keys)),
        num_processors=None,
    )
    rows = _Rows(tokenised, len(found["input"]), data.max_len)
    micro, seed = args.train.micro_batch_size, args.train.seed
    return AuxiliaryLoss(actor, rows, coef=policy.ptx_coef, size=policy.ptx_rows, micro=micro, seed=seed)


class _Rows(Sequence):
    """An SFTDataset's rows, tokenised when they are asked for.

    Raises:
        ValueError: a row has more than `limit` tokens.
    """

    def __init__(self, dataset: Any, count: int, limit: int) -> None:
        self._dataset, self._limit = dataset, limit
        if len(dataset) != count:
            raise ValueError(
                f"kimi.policy.ptx_dataset: {count - len(dataset)} of {count} rows leave no room for a response in "
                f"data.max_len {limit}; shorten or remove them, or raise data.max_len"
            )
        for number, (prompt, response) in enumerate(zip(dataset.prompts, dataset.responses, strict=True)):
            if len((prompt + response).encode()) + 2 > limit:  # a token has a byte, at least; a space and EOS follow
                self[number]

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, number):
        tokens, _, mask = self._dataset[number]
        if tokens.shape[1] > self._limit:
            raise ValueError(
                f"kimi.policy.ptx_dataset: row {number + 1} has more tokens than data.max_len {self._limit}; shorten "
                "or remove it, or raise data.max_len"
            )
        return tokens[0], mask[0, :-1].bool()
