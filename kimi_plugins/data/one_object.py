"""The rows of a JSON file that is one object: a wrapper, columns, rows by name, or what pandas writes."""

from collections.abc import Mapping
from typing import Any

from kimi_plugins.data.shards import Unreadable

SPLITS = ("train", "training", "test", "validation", "valid", "val", "dev", "eval")
WRAPPERS = ("data", "rows", "instances", "examples", "items", "questions", "problems", "records", "samples", "entries")


def rows_within(path: str, value: Any, split: str) -> list | None:
    """The rows of an object that is the whole of a file; None: it is a row itself.

    Taken are {"data": [row, …]} beside other values, {"train": [row, …], "test": […]} (of which those of `split`),
    {"id": row, …}, {"column": [value, …], …} with columns of one length, pandas' orient="columns" and "split", and the
    {"rows": [{"row": row}]} of the hub's API.

    Raises:
        Unreadable: it holds several splits and not this one.
    """
    if not isinstance(value, dict):
        return None
    lists = {key: item for key, item in value.items() if _are_objects(item)}
    splits = [key for key in lists if key in SPLITS]
    if len(splits) > 1:
        if split not in splits:
            raise Unreadable(f"{path}: no split {split!r}; set the split to one of {', '.join(splits)}")
        return lists[split]
    if len(lists) == 1 and not any(isinstance(item, dict) and _are_objects([item]) for item in _beside(value, lists)):
        [(name, rows)] = lists.items()
        if name in (*SPLITS, *WRAPPERS):
            return [row["row"] if "row_idx" in row and isinstance(row.get("row"), dict) else row for row in rows]
    return _columns(value) or _by_name(value)


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _beside(value: Mapping, lists: Mapping) -> list:
    """Objects beside the list that may be rows, too: not those that describe the file."""
    return [
        item for key, item in value.items() if key not in (*lists, "info", "metadata", "meta", "features", "license")
    ]


def _columns(value: dict) -> list | None:
    """Rows of columns: lists of one length, or pandas' objects with the same row names 0, 1, …."""
    if set(value) == {"columns", "index", "data"} and all(isinstance(row, list) for row in value["data"]):
        return [dict(zip(value["columns"], row, strict=True)) for row in value["data"]]
    items = list(value.values())
    if len(items) < 2:
        return None
    if all(isinstance(item, list) for item in items):
        same = len({len(item) for item in items}) == 1
        # {"messages": [{"role": …}], "images": ["a.png"]} is a row.
        talk = any(isinstance(one, dict) and {"role", "from"} & set(one) for item in items for one in item)
        return [dict(zip(value, row, strict=True)) for row in zip(*items, strict=True)] if same and not talk else None
    if all(isinstance(item, dict) for item in items):
        names = list(items[0])
        if names and names == [str(at) for at in range(len(names))] and all(list(item) == names for item in items):
            return [{column: value[column][name] for column in value} for name in names]
    return None


def _by_name(value: dict) -> list | None:
    named = len(value) > 1 and all(isinstance(item, dict) for item in value.values())
    return list(value.values()) if named else None
