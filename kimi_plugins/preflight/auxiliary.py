"""The rows of the auxiliary SFT loss (kimi.policy.ptx_dataset), checked before the run starts."""

import os
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

from kimi_plugins.policy import ptx_rows
from kimi_plugins.preflight.data import Problems
from kimi_plugins.preflight.prompts import model_tokenizer

OPTION = "kimi.policy.ptx_dataset"


def check_auxiliary(args: Any) -> Iterator[str]:
    """Rows without prompt or response, or with more than data.max_len tokens, a chat template's own not counted."""
    name, limit = args.kimi.policy.ptx_dataset, args.data.max_len
    if name is None:
        return
    if not os.path.exists(name):
        yield f"{OPTION}: {name} does not exist; give a file or a directory of this machine"
        return
    count, problems = 0, Problems()
    load_tokenizer = cache(partial(model_tokenizer, args.actor.model_name_or_path))
    try:
        for row, problem in ptx_rows.rows(args):
            count += 1
            if problem is None:
                text = "".join(ptx_rows.texts(row.value, args)).rstrip("\n")
                if len(text.encode(errors="replace")) + 1 > limit:  # a token has a byte, at least
                    tokenizer = load_tokenizer()
                    if tokenizer and len(tokenizer.encode(text, add_special_tokens=False)) + 1 > limit:
                        problem = (
                            f"longer than data.max_len {limit} tokens; shorten or remove it, or raise data.max_len"
                        )
            if problem is not None:
                problems.add(row, name, problem)
    except (OSError, ValueError) as error:
        yield f"{OPTION}: {' '.join(str(error).split())}"
        return
    yield from problems.lines(OPTION, name)
    if count == 0:
        yield f"{OPTION}: {name} holds no rows; give a file with data"
