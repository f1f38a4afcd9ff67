"""The rows of the auxiliary SFT loss (PTX), read alike by the checks before a run and by its ranks."""

from collections.abc import Iterator
from typing import Any

from kimi_plugins.data import containers


def rows(args: Any) -> Iterator[tuple[containers.Row, str | None]]:
    """Every row of kimi.policy.ptx_dataset, and what is wrong with it; None: two texts under the keys of the options.

    Raises:
        OSError, Unreadable: the data set cannot be read as a whole.
    """
    policy = args.kimi.policy
    keys = {option: getattr(policy, option) for option in ("ptx_input_key", "ptx_output_key")}
    for row in containers.rows(policy.ptx_dataset, columns=list(keys.values())):
        yield row, row.problem or _problem(row.value, keys)


def texts(row: dict[str, str], args: Any) -> tuple[str, str]:
    """Prompt and response of a row, both text, the prompt in data.input_template as those of the rollouts are."""
    policy, data = args.kimi.policy, args.data
    prompt = row[policy.ptx_input_key]
    if data.input_template and not data.apply_chat_template:
        prompt = data.input_template.format(prompt)
    return prompt, row[policy.ptx_output_key]


def _problem(row: object, keys: dict[str, str]) -> str | None:
    if not isinstance(row, dict):
        return "no object; write one with " + " and ".join(f'"{key}"' for key in keys.values())
    for option, key in keys.items():
        if key not in row:
            known = ", ".join(map(repr, sorted(map(str, row))[:6])) or "none"
            return f"no key {key!r}; add it, or set kimi.policy.{option} to one of its keys: {known}"
        if not isinstance(row[key], str):
            return f"{key!r} is no text; write it as a text"
        if not row[key].strip():
            return f"{key!r} is empty; fill it in or remove the row"
    return None
