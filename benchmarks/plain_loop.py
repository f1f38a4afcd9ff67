"""A small decoder, sampling, grading and an iteration of RL in plain torch, without Ray and vLLM: seconds on one core.

What off_policy.py and others share. B: responses, T: tokens, the prompt's padded on the left.
"""

import random
import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kimi_plugins.quickstart.arithmetic import ANSWER_CLOSE, ANSWER_OPEN, EOS, prompt, solution
from kimi_plugins.quickstart.model import SYMBOLS

PAD = 0
TOKENS = ["<pad>", EOS, *SYMBOLS]
INDEX = {token: number for number, token in enumerate(TOKENS)}
SPLIT = re.compile("|".join(re.escape(token) for token in sorted(TOKENS, key=len, reverse=True)))
ROOM = 72  # tokens of a response
CONTEXT = 9 + ROOM  # of two numbers of three digits, too
LOOK = 25  # supervised steps from one look at how far the warm-up is to the next
BUCKET = 32  # responses of like length that go through the model together
SHRINK = 0.75  # the batch is cut to the responses still running when so few of it are

Problem = tuple[int, int]


class Decoder(nn.Module):
    """A decoder of 0.06 million parameters over TOKENS: tokens [B, T] → logits [B, T, V].

    rotary: positions by rotating queries and keys in place of learned ones, so that none is new in a longer response.
    """

    def __init__(
        self,
        width: int = 48,
        layers: int = 2,
        heads: int = 3,
        context: int = CONTEXT,
        vocabulary: int = len(TOKENS),
        rotary: bool = False,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.context = context
        self.embed = nn.Embedding(vocabulary, width)
        self.position = None if rotary else nn.Embedding(context, width)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.LayerNorm(width, bias=False),
                    "qkv": nn.Linear(width, 3 * width, bias=False),
                    "out": nn.Linear(width, width, bias=False),
                    "norm2": nn.LayerNorm(width, bias=False),
                    "up": nn.Linear(width, 4 * width, bias=False),
                    "down": nn.Linear(4 * width, width, bias=False),
                }
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width, bias=False)

    def cache(self, rows: int) -> list[Tensor]:
        """Room for the keys and values of each layer, [2, rows, heads, context, width of a head]."""
        width = self.embed.embedding_dim
        shape = (2, rows, self.heads, self.context, width // self.heads)
        return [torch.zeros(shape) for _ in self.layers]

    def forward(self, tokens: Tensor, pads: Tensor, cache: list[Tensor] | None = None, start: int = 0) -> Tensor:
        """pads: [B], padding on the left. cache: holds the tokens before `start`; these are written to it."""
        batch, length = tokens.shape
        end = start + length
        column = torch.arange(start, end)
        x = self.embed(tokens)  # [B, T, W]
        if self.position is not None:
            x = x + self.position((column - pads[:, None]).clamp(min=0))
        keys = torch.arange(end)
        allowed = (keys <= column[:, None]) & (keys >= pads[:, None, None])  # [B, T, S]
        allowed = (allowed | (keys == column[:, None])).unsqueeze(1)  # a row of padding sees itself: no NaN
        for number, layer in enumerate(self.layers):
            q, k, v = layer["qkv"](layer["norm1"](x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            if self.position is None:
                q, k = rotated(q, column), rotated(k, column)
            if cache is not None:
                cache[number][0, :, :, start:end], cache[number][1, :, :, start:end] = k, v
                k, v = cache[number][:, :, :, :end]
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
            x = x + layer["out"](mixed.transpose(1, 2).reshape(batch, length, -1))
            x = x + layer["down"](F.relu(layer["up"](layer["norm2"](x))))
        return self.norm(x) @ self.embed.weight.T


def rotated(heads: Tensor, column: Tensor) -> Tensor:
    """RoPE of [B, H, T, D] for the positions column [T], on a half of each head: the other sees no distances."""
    turned, kept = heads.chunk(2, dim=-1)
    a, b = turned.chunk(2, dim=-1)
    angles = column[:, None] * 1000.0 ** -(torch.arange(a.shape[-1]) / a.shape[-1])  # [T, D / 4]
    sine, cosine = angles.sin(), angles.cos()
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine, kept], dim=-1)


def encode(text: str) -> list[int]:
    """Tokens of a text made of TOKENS; the longest that fits comes first."""
    return [INDEX[token] for token in SPLIT.findall(text)]


def prompts_of(problems: list[Problem]) -> tuple[Tensor, Tensor]:
    """(tokens [N, longest prompt] padded on the left, padding [N])."""
    rows = [encode(prompt(a, b)) for a, b in problems]
    width = max(map(len, rows))
    pads = [width - len(row) for row in rows]
    return torch.tensor([[PAD] * pad + row for pad, row in zip(pads, rows, strict=True)]), torch.tensor(pads)


@torch.no_grad()
def generate(
    model: Decoder, prompts: Tensor, pads: Tensor, generator: torch.Generator, room: int = ROOM
) -> tuple[Tensor, Tensor]:
    """Sampled at temperature 1: tokens [B, T] and the mask of the response's, its <eos> included."""
    batch, first = prompts.shape
    tokens = torch.cat([prompts, torch.full((batch, room), PAD)], dim=1)
    lengths = torch.zeros(batch, dtype=torch.long)
    cache = model.cache(batch)
    rows = torch.arange(batch)  # of the batch that are still in the cache
    following, start = prompts, 0
    running = torch.ones(batch, dtype=torch.bool)  # of rows
    for step in range(room):
        logits = model(following, pads[rows], cache, start)[:, -1]
        start += following.shape[1]
        following = torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)
        tokens[rows[running], first + step] = following[running, 0]
        lengths[rows[running]] += 1
        running = running & (following[:, 0] != INDEX[EOS])
        alive = int(running.sum())
        if not alive:
            break
        if alive < SHRINK * len(rows):
            cache = [layer[:, running] for layer in cache]
            rows, following, running = rows[running], following[running], running[running]
    end = first + int(lengths.max())
    column = torch.arange(end) - first
    return tokens[:, :end], (column >= 0) & (column < lengths[:, None])


def log_probs(model: Decoder, tokens: Tensor, pads: Tensor, mask: Tensor) -> Tensor:
    """[B, T − 1]: of each token after the first, 0 after the end of a response (mask: [B, T], of its tokens)."""
    ends = tokens.shape[1] - mask.flip(-1).int().argmax(dim=-1)  # [B]; T for a row without any
    order, parts = ends.argsort(), []
    for rows in order.split(BUCKET):
        end = int(ends[rows[-1]])
        found = model(tokens[rows, : end - 1], pads[rows]).log_softmax(dim=-1)
        found = found.gather(-1, tokens[rows, 1:end, None]).squeeze(-1)
        parts.append(F.pad(found, (0, tokens.shape[1] - end)))
    return torch.cat(parts)[order.argsort()]


def verdicts(tokens: Tensor, problems: list[Problem]) -> Tensor:
    """[B]: 1 for a response that ends in its right answer, else 0."""
    right = []
    for row, (a, b) in zip(tokens.tolist(), problems, strict=True):
        text = "".join(TOKENS[token] for token in row if token != PAD)
        right.append(float(text.endswith(f"{ANSWER_OPEN}{a + b}{ANSWER_CLOSE}{EOS}")))
    return torch.tensor(right)


def supervised_step(
    model: Decoder,
    optimizer: torch.optim.Optimizer,
    problems: list[Problem],
    rng: random.Random,
    rows: int = 32,
    rewritten: float = 0.0,
) -> None:
    """One optimizer step on worked solutions of problems drawn at random. rewritten: as of solution."""
    chosen = rng.choices(problems, k=rows)
    worked = [encode(solution(a, b, rng, rewritten=rewritten))[:ROOM] for a, b in chosen]
    imitate(model, optimizer, *prompts_of(chosen), worked)


def warm_up(
    model: Decoder,
    optimizer: torch.optim.Optimizer,
    problems: list[Problem],
    rng: random.Random,
    reached: Callable[[int], bool],
    rewritten: float = 0.0,
) -> None:
    """Supervised steps until reached(their number), which is asked every LOOK steps."""
    step = 0
    while step % LOOK or not reached(step):
        supervised_step(model, optimizer, problems, rng, rewritten=rewritten)
        step += 1


def kept(model: Decoder, path: Path, train: Callable[[Decoder], None]) -> Decoder:
    """The model as it is after train(model), which is called once: its weights are kept at `path`."""
    if path.exists():
        model.load_state_dict(torch.load(path))
    else:
        train(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), path)
    return model


def imitate(
    model: Decoder, optimizer: torch.optim.Optimizer, prompts: Tensor, pads: Tensor, answers: list[list[int]]
) -> None:
    """One optimizer step on the mean log-prob of the tokens of these answers; prompts and pads as of prompts_of."""
    longest = max(map(len, answers))
    tokens = torch.cat([prompts, torch.tensor([row + [PAD] * (longest - len(row)) for row in answers])], dim=1)
    column = torch.arange(tokens.shape[1]) - prompts.shape[1]
    mask = (column >= 0) & (column < torch.tensor([[len(row)] for row in answers]))
    optimizer.zero_grad()
    (-(log_probs(model, tokens, pads, mask) * mask[:, 1:]).sum() / mask.sum()).backward()
    optimizer.step()


def evaluate(model: Decoder, problems: list[Problem], seed: int, samples: int = 1) -> list[float]:
    """Share solved of each problem, of `samples` responses at temperature 1."""
    repeated = [problem for problem in problems for _ in range(samples)]
    tokens, _ = generate(model, *prompts_of(repeated), torch.Generator().manual_seed(seed))
    return verdicts(tokens, repeated).view(-1, samples).mean(dim=1).tolist()


def update(
    model: Decoder,
    optimizer: torch.optim.Optimizer,
    loss_function: Callable,
    tokens: Tensor,
    pads: Tensor,
    mask: Tensor,
    advantages: Tensor,
    steps: int,
    generator: torch.Generator,
    max_norm: float = 1.0,
) -> float:
    """One pass over the rollouts in `steps` optimizer steps; returns the mean |log π_θ/π_i| of a response after it.

    Args:
        loss_function: called as OpenRLHF calls its PolicyLoss.
        tokens, mask: [B, T], as of generate.
        advantages: [B].
    """
    trained = mask[:, 1:]
    with torch.no_grad():
        old = log_probs(model, tokens, pads, mask)
    for rows in torch.randperm(len(tokens), generator=generator).chunk(steps):
        new = log_probs(model, tokens[rows], pads[rows], mask[rows])
        loss, *_ = loss_function(new, old[rows], advantages[rows, None].expand_as(new), trained[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
    with torch.no_grad():
        delta = ((log_probs(model, tokens, pads, mask) - old) * trained).sum(dim=-1)
    return delta.abs().mean().item()
