"""Fingerprints of models and prompts, by which kept completions are recognised as theirs."""

from pathlib import Path

from kimi_plugins.completions.types import Request
from kimi_plugins.data.journal import digest

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
# Of a model's directory, what completions depend on beside the weights: configuration, tokenizer, chat template, code.
READ = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".py")


HEAD, PIECE, PIECES = 1 << 16, 1 << 12, 64  # bytes of weights that are hashed: the first, and pieces in even steps


def _weights(file: Path) -> list[int | str]:
    """Size, time and a hash of parts: a model may be written anew with the size and time of another."""
    status = file.stat()
    with file.open("rb") as opened:
        parts = [opened.read(HEAD)]
        for at in range(PIECES):
            opened.seek(max(status.st_size - PIECE, 0) * at // (PIECES - 1))
            parts.append(opened.read(PIECE))
    return [status.st_size, status.st_mtime_ns, digest(b"".join(parts))]


def model_files(model: str) -> dict[str, list[int | str] | str]:
    """What identifies a model: size, time and a hash of parts of its weights, and hashes of its other files.

    A model of the hub is identified by its commit.

    Raises:
        ValueError: the directory holds no model, or the hub has no such one.
    """
    directory = Path(model)
    if not directory.is_dir():
        return {"commit": _commit(model)}
    found: dict[str, list[int | str] | str] = {}
    for file in sorted(directory.iterdir()):
        if file.suffix in WEIGHTS:
            found[file.name] = _weights(file)
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
