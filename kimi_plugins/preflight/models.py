"""Model directories and hub names that would fail, or load without a vocabulary, in a worker."""

import importlib.util
import json
import math
import os
import re
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
# With none of these transformers builds a tokenizer of one token, and says nothing.
TOKENIZERS = ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "tekken.json")

# transformers' names of the longest sequence a model knows positions for, as vLLM looks for them.
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length")
SCALED_ALREADY = ("default", "su", "longrope", "llama3")  # kinds of RoPE whose factor is in those lengths
# Given one row of positions these find no text positions in it, and packed samples would see each other.
UNPACKABLE = ("qwen2_vl", "qwen2_5_vl")
MASKED_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}
HEADLESS = ("Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")

IMAGE_PROCESSORS = ("processor_config.json", "preprocessor_config.json")


def is_hub_name(name: str) -> bool:
    return re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name) is not None


def hub_offline() -> bool:
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in ("1", "ON", "YES", "TRUE")


def _hub_home() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("HF_HOME") or os.path.join(cache, "huggingface"))


def hub_cache() -> Path:
    """Where huggingface_hub keeps its downloads."""
    return Path(os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or _hub_home() / "hub")


def cached_models(name: str) -> list[Path]:
    return sorted((hub_cache() / f"models--{name.replace('/', '--')}" / "snapshots").glob("*"))


def cached_datasets(name: str) -> list[Path]:
    prepared = Path(os.environ.get("HF_DATASETS_CACHE") or _hub_home() / "datasets")
    downloaded = hub_cache() / f"datasets--{name.replace('/', '--')}" / "snapshots"
    return [*downloaded.glob("*"), *prepared.glob(name.replace("/", "___"))]


def check_not_local(key: str, name: str, cached) -> Iterator[str]:
    """A name that is not a local path has to be one on the hub, and within reach. cached: name → copies kept here."""
    if not is_hub_name(name):
        yield f"{key}: {name} does not exist; correct the path"
    elif hub_offline() and not cached(name):
        yield (
            f"{key}: {name} is neither a path here nor a download in {_hub_home()}, and HF_HUB_OFFLINE is set; "
            "correct the path, or unset HF_HUB_OFFLINE to download it"
        )


def weight_files(directory: Path) -> list[Path]:
    return next((found for pattern in WEIGHTS if (found := sorted(directory.glob(pattern)))), [])


def here(name: str | None) -> tuple[Path, dict] | None:
    """A model's directory on this machine and its config.json; None if it has none that can be read."""
    if not name:
        return None
    directories = [Path(name)] if os.path.isdir(name) else cached_models(name)
    try:
        config = json.loads((directories[-1] / "config.json").read_text())
    except (IndexError, OSError, ValueError):
        return None
    return (directories[-1], config) if isinstance(config, dict) else None


def parameters(name: str) -> int:
    """Parameters of a model by the size of its weights, 0 when they are not on this machine."""
    if (found := here(name)) is None:
        return 0
    directory, config = found
    size = 4 if config.get("dtype", config.get("torch_dtype")) == "float32" else 2  # bytes
    return sum(file.stat().st_size for file in weight_files(directory)) // size


def _text(config: dict) -> dict:
    """The part of a config.json that is about the language model."""
    text = config.get("text_config")
    return text if isinstance(text, dict) else config


def context(config: dict) -> int | None:
    """The most tokens that a model knows positions for, RoPE's scaling included; None if its config.json does not say.

    As vLLM's _get_and_verify_max_len, but never less than it: where the two could differ, the longer one.

    Raises:
        ValueError: a key is not what transformers writes there; the message is the key with its value.
    """
    text = _text(config)
    lengths = [_number(text, key) for key in CONTEXT_KEYS if text.get(key) is not None]
    if not lengths:
        return None
    scaling = "rope_parameters" if text.get("rope_parameters") else "rope_scaling"
    ropes = text.get(scaling) or {}
    if not isinstance(ropes, dict):
        raise ValueError(f"{scaling} {ropes!r}")
    if not all(isinstance(rope, dict) for rope in ropes.values()):
        ropes = {"": ropes}
    longest = min(lengths)
    for rope in ropes.values():
        if rope.get("rope_type", rope.get("type", "default")) not in SCALED_ALREADY:
            base = _number(rope, "original_max_position_embeddings") or min(lengths)
            longest = max(longest, int(base * (_number(rope, "factor") or 1)))
    return int(longest)


def _number(values: dict, key: str) -> float:
    """values[key], 0 if it is not there. Raises ValueError: no finite number."""
    value = values.get(key) or 0
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key} {value!r}")
    return value


def _check_context(key: str, name: str | None, args) -> Iterator[str]:
    if (found := here(name)) is None:
        return
    try:
        limit = context(found[1])
    except ValueError as error:
        yield f"{key}: {name} has {error} in its config.json; correct it, or save the model again"
        return
    if limit is not None and args.data.max_len > limit and not os.environ.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN"):
        yield (
            f"data.max_len: {args.data.max_len} tokens, and {key} {name} has a context of {limit} by its config.json; "
            "lower it, or give a model with a longer context (rope_parameters in its config.json)"
        )


def _check_packing(key: str, name: str | None, args) -> Iterator[str]:
    if not args.ds.packing_samples or (found := here(name)) is None:
        return
    config = found[1]
    kinds = _text(config).get("layer_types") or []
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        yield f"{key}: {name} has layer_types {kinds!r} in its config.json; correct it, or save the model again"
        return
    layers = set(kinds) - MASKED_LAYERS
    if config.get("model_type") in UNPACKABLE:
        yield (
            f"ds.packing_samples: {key} {name} is a {config['model_type']}, whose positions do not tell packed "
            "samples apart; leave it out, and train.dynamic_batch_enable with it"
        )
    elif layers and "flash_attention" not in args.ds.attn_implementation:
        yield (
            f"ds.packing_samples: {key} {name} has {', '.join(sorted(layers))} layers, which do not keep samples "
            "apart; leave it out, and train.dynamic_batch_enable with it"
        )


def _check_head(key: str, name: str | None) -> Iterator[str]:
    """A model saved without an output head gets a random one from transformers."""
    if (found := here(name)) is None:
        return
    config = found[1]
    names = [str(architecture) for architecture in config.get("architectures") or ()]
    headless = [one for one in names if one.endswith(HEADLESS) and not one.endswith("HeadModel")]
    if names and headless == names and config.get("tie_word_embeddings") is False:
        yield (
            f"{key}: {name} is a {names[0]}, which has no output head to sample from or to train; give the language "
            "model (…ForCausalLM) it was made from"
        )


def _missing_shards(directory: Path) -> list[str]:
    shards = set()
    for index in [*directory.glob("*.safetensors.index.json"), *directory.glob("pytorch_model.bin.index.json")]:
        shards |= set(json.loads(index.read_text()).get("weight_map", {}).values())
    return sorted(shard for shard in shards if not (directory / shard).exists())


def check_directory(key: str, directory: Path, tokenizer: bool) -> Iterator[str]:
    try:
        json.loads((directory / "config.json").read_text())
        missing = _missing_shards(directory)
    except FileNotFoundError:
        yield f"{key}: {directory} has no config.json; give the directory of a saved Hugging Face model"
        return
    except (OSError, ValueError) as error:
        yield f"{key}: {directory} has an unreadable config.json or weight index ({error}); save the model again"
        return
    if not weight_files(directory):
        yield f"{key}: {directory} has no weights ({' or '.join(WEIGHTS)}); save the model again"
    elif missing:
        yield f"{key}: {directory} lacks {missing[0]} ({len(missing)} files of its index); copy them"
    if tokenizer and not any(next(directory.glob(pattern), None) for pattern in TOKENIZERS):
        yield f"{key}: {directory} has no tokenizer (tokenizer.json or the like); save the tokenizer there too"


def _check(key: str, name: str | None, args, tokenizer: bool = True) -> Iterator[str]:
    if not name:
        yield f"{key}: not set; give a model directory or a name on the hub"
    elif os.path.isdir(name):
        yield from check_directory(key, Path(name), tokenizer)
    elif os.path.exists(name):
        yield f"{key}: {name} is a file; give the directory it is in"
    elif not args.use_ms:
        yield from check_not_local(key, name, cached_models)


def _check_trained(key: str, name: str | None, args) -> Iterator[str]:
    """What a language model needs to be trained on long or packed samples."""
    yield from _check_head(key, name)
    yield from _check_context(key, name, args)
    yield from _check_packing(key, name, args)


def check_policy_models(args) -> Iterator[str]:
    """The actor, which is the reference policy too, and a critic or a reward model of its own."""
    yield from _check("actor.model_name_or_path", args.actor.model_name_or_path, args)
    yield from _check_trained("actor.model_name_or_path", args.actor.model_name_or_path, args)
    critic = args.critic.model_name_or_path
    if args.algo.advantage.estimator == "gae" and critic not in (None, args.actor.model_name_or_path):
        yield from _check("critic.model_name_or_path", critic, args, tokenizer=False)
    if not (args.reward.remote_url or args.train.agent_func_path) and args.reward.model_name_or_path:
        yield from _check("reward.model_name_or_path", args.reward.model_name_or_path, args, tokenizer=False)


def _has_chat_template(directory: Path) -> bool:
    """Whether transformers finds a chat template beside the tokenizer; True where that cannot be told."""
    if list(directory.glob("chat_template*")) or (directory / "additional_chat_templates").exists():
        return True
    for name in ("tokenizer_config.json", "processor_config.json"):
        try:
            if json.loads((directory / name).read_text()).get("chat_template"):
                return True
        except FileNotFoundError:
            continue
        except (OSError, ValueError, AttributeError):
            return True
    return not (directory / "tokenizer_config.json").exists()


def check_parts(args) -> Iterator[str]:
    """Settings of parts that the policy's model lacks, by its config.json."""
    name = args.actor.model_name_or_path
    if (found := here(name)) is None:
        return
    config = found[1]
    none = f"has no effect: actor.model_name_or_path {name} has no"
    if "expert" not in json.dumps(config):
        for key in ("ds.experts_implementation", "actor.aux_loss_coef"):
            if value := attrgetter(key)(args):
                yield f"{key}: {value} {none} experts by its config.json; leave it out"
    if args.actor.freeze_visual_encoder and "vision_config" not in config:
        yield f"actor.freeze_visual_encoder: {none} vision_config in its config.json; leave it out"


def _layers(directory: Path) -> set[str]:
    """The last names of the layers with matrices, q_proj of model.layers.0.self_attn.q_proj; empty if unknown."""
    names: set[str] = set()
    for path in directory.glob("*.safetensors"):
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > path.stat().st_size:
                return set()
            try:
                header = json.loads(file.read(size))
            except ValueError:
                return set()
        names |= {name for name, tensor in header.items() if len(tensor.get("shape", ())) == 2}
    return {name.removesuffix(".weight").rpartition(".")[2] for name in names}


def check_adapted_layers(args) -> Iterator[str]:
    chosen, name = args.ds.lora.target_modules, args.actor.model_name_or_path
    if not args.ds.lora.rank or isinstance(chosen, str) or (found := here(name)) is None:
        return
    layers = _layers(found[0])
    if layers and (missing := [one for one in chosen or () if one.rpartition(".")[2] not in layers]):
        yield (
            f"ds.lora.target_modules: {', '.join(missing)}: no layer of actor.model_name_or_path {name}; choose "
            f"some of {', '.join(sorted(layers))}, or leave it out for all linear ones"
        )


def check_chat_template(args) -> Iterator[str]:
    name = args.actor.model_name_or_path
    if args.data.apply_chat_template and (found := here(name)) is not None and not _has_chat_template(found[0]):
        yield (
            f"data.apply_chat_template: actor.model_name_or_path {name} has no chat template, neither in "
            "tokenizer_config.json nor as chat_template.jinja; add one, as a chat model of its family has, or leave "
            "it out"
        )


def check_vision(args) -> Iterator[str]:
    """What a run with images needs beside the weights."""
    wanted = args.data.max_images_per_prompt
    if wanted == 0:
        return
    if importlib.util.find_spec("torchvision") is None:
        yield (
            f"data.max_images_per_prompt: {wanted}, and image processors need torchvision, which is not installed; "
            "install the version that belongs to your torch"
        )
    if args.ds.packing_samples:  # also where OpenRLHF has set it itself, for dynamic batches
        yield (
            f"data.max_images_per_prompt: {wanted}, and samples with images cannot be packed (ds.packing_samples); "
            "leave out ds.packing_samples and train.dynamic_batch_enable"
        )
    if (found := here(args.actor.model_name_or_path)) is None:  # on the hub, or reported already
        return
    directory, config = found
    if "vision_config" not in config:
        yield (
            f"data.max_images_per_prompt: {wanted}, and {directory}, the policy's model, has no vision_config in its "
            "config.json; give a vision model, or set it to 0"
        )
    elif not any((directory / name).exists() for name in IMAGE_PROCESSORS):
        yield (
            f"actor.model_name_or_path: {directory} has no {' or '.join(IMAGE_PROCESSORS)}; save the original model's "
            "AutoProcessor there"
        )


def check_model(args) -> Iterator[str]:
    """The model of SFT and DPO."""
    yield from _check("model.model_name_or_path", args.model.model_name_or_path, args)
    yield from _check_trained("model.model_name_or_path", args.model.model_name_or_path, args)


def check_scoring_model(args) -> Iterator[str]:
    """The model that becomes a reward model, whose own head is a new one."""
    key, name = "model.model_name_or_path", args.model.model_name_or_path
    yield from _check(key, name, args)
    yield from _check_context(key, name, args)
    yield from _check_packing(key, name, args)


def check_reference(args) -> Iterator[str]:
    name = args.ref.model_name_or_path
    if name and name != args.model.model_name_or_path:
        yield from _check("ref.model_name_or_path", name, args, tokenizer=False)
