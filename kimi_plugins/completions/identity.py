"""Fingerprints of models and prompts, by which kept completions are recognised as theirs."""

from pathlib import Path

from kimi_plugins.completions.types import Request
from kimi_plugins.data.journal import digest

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
# Of a model's directory, what completions depend on beside the weights: configuration, tokenizer, chat template, code.
READ = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".py")


def model_files(model: str) -> dict[str, list[int] | str]:
    """What identifies a model: for each of its files the size and time of weights, and a hash of the others.

    A model of the hub is identified by its commit.

    Raises:
        ValueError: the directory holds no model, or the hub has no such one.
    """
    directory = Path(model)
    if not directory.is_dir():
        return {"commit": _commit(model)}
    found: dict[str, list[int] | str] = {}
    for file in sorted(directory.iterdir()):
        if file.suffix in WEIGHTS:
            status = file.stat()
            found[file.name] = [status.st_size, status.st_mtime_ns]
        elif file.suffix in READ and file.is_file():
            found[file.name] = digest(file.read_bytes())
    if not any(name.endswith(WEIGHTS) for name in found):
        raise ValueError(f"{model}: the directory has no weights ({', '.join(WEIGHTS)}); name a model's directory")
    return found


def _commit(model: str) -> str:
    from transformers.utils import cached_file

    try:
        path = cached_file(model, "config.json")
    except OSError as error:
        raise ValueError(
            f"{model}: is neither a directory nor a model of the hub: {str(error).splitlines()[0]}"
        ) from error
    assert path is not None  # cached_file raises for a file that is missing, unless it is told otherwise
    return Path(path).parent.name  # …/snapshots/COMMIT/config.json


def request_digest(request: Request) -> str:
    """A hash of the prompt and of its images' contents."""
    images = [digest(Path(image).read_bytes()) if Path(image).is_file() else image for image in request.images]
    return digest([request.prompt, images])
