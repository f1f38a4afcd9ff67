"""Merging two checkpoints: the formulas, mergekit's results, and everything that is refused."""

import json
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AddedToken, AutoModelForCausalLM, AutoTokenizer

from kimi_plugins.long2short import merge
from kimi_plugins.long2short.checkpoint import CheckpointError, only_weights_differ, read_header
from kimi_plugins.quickstart.model import build_model

MERGEKIT = json.loads(Path(__file__).with_name("mergekit.json").read_text())
EMBEDDING = "model.embed_tokens.weight"
AVERAGE = partial(merge.average, weight=0.5)


def tensors_of(directory):
    return {k: v for file in sorted(directory.glob("*.safetensors")) for k, v in load_file(file).items()}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models in shards and one of another kind each."""
    directory = tmp_path_factory.mktemp("models")
    build_model(directory / "a", seed=1)
    build_model(directory / "b", seed=2)
    build_model(directory / "untied", seed=2, tie=False)
    model = AutoModelForCausalLM.from_pretrained(directory / "a", dtype=torch.bfloat16)
    (directory / "a/model.safetensors").unlink()
    model.save_pretrained(directory / "a", max_shard_size="600KB")
    assert len(list((directory / "a").glob("*.safetensors"))) > 2
    return directory


@pytest.fixture
def two(models, tmp_path):
    """Copies of a and b that a test may damage."""
    for name in ("a", "b"):
        shutil.copytree(models / name, tmp_path / name)
    return tmp_path


def merge_two(directory, combine=AVERAGE, in_blocks=True, **settings):
    return merge.merge_checkpoints(
        [directory / "a", directory / "b"], directory / "out", combine, in_blocks=in_blocks, **settings
    )


def refused(directory, match, error=CheckpointError):
    before = sorted(path.name for path in directory.iterdir())
    with pytest.raises(error, match=match):
        merge_two(directory)
    assert sorted(path.name for path in directory.iterdir()) == before


@pytest.mark.parametrize("name", MERGEKIT["results"])
def test_the_methods_give_what_mergekit_gives(name):
    method, weight = name.split()
    random = {"density": 0.4, "generator": torch.Generator().manual_seed(7)}  # as mergekit's was seeded
    settings = {
        "task_arithmetic": {},
        "ties": {"density": 0.4},
        "dare_linear": random | {"elect": False},
        "dare_ties": random | {"elect": True},
    }
    from_base = method in settings
    function = getattr(merge, method.partition("_")[0] if "dare" in method else method)
    more = settings[method] | {"scale": 1.0} if from_base else {}
    for tensor, expected in MERGEKIT["results"][name].items():
        inputs = [torch.tensor(MERGEKIT["inputs"][key][tensor]) for key in ("a", "b", "base")[: 2 + from_base]]
        result = function(inputs, torch.float32, weight=float(weight), **more)
        assert not torch.allclose(result, inputs[0], atol=1e-2)
        torch.testing.assert_close(result, torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_task_arithmetic_is_the_average_or_adds_both_changes():
    a, b, base = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    once, twice = (merge.task_arithmetic([a, b, base], torch.float32, weight=0.5, scale=scale) for scale in (1.0, 2.0))
    torch.testing.assert_close(once, (a + b) / 2)
    torch.testing.assert_close(twice, a + b - base)


def test_thinning_keeps_the_share_and_the_sum_of_magnitudes():
    change = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    kept = merge.thinned(change, 0.3, torch.Generator().manual_seed(1))
    assert abs((kept != 0).float().mean().item() - 0.3) < 4 * (0.3 * 0.7 / 20_000) ** 0.5
    torch.testing.assert_close(kept.abs().sum(), change.abs().sum())
    assert torch.equal(merge.thinned(change, 1.0, torch.Generator()), change)
    assert torch.equal(merge.thinned(0 * change, 0.3, torch.Generator()), 0 * change)


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_the_average_in_bfloat16_is_rounded_once(weight):
    torch.manual_seed(0)
    a, b = (torch.randn(10_000).bfloat16() for _ in range(2))
    exact = (1 - weight) * a.double() + weight * b.double()
    result = merge.average([a, b], torch.bfloat16, weight=weight)
    # Half a unit in the last of 8 places, and float32's own rounding.
    assert ((result.double() - exact).abs() <= exact.abs() * 2**-8 + 1e-6).all()
    assert torch.equal(result, merge.average([a.float(), b.float()], torch.bfloat16, weight=weight))


def test_slerp_keeps_the_norm_and_parallel_tensors_are_averaged():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    result = merge.slerp([a, b], torch.float32, weight=0.5)
    torch.testing.assert_close(result, torch.tensor([0.5, 0.5]).sqrt())
    torch.testing.assert_close(merge.slerp([a, 3 * a], torch.float32, weight=0.5), 2 * a)
    torch.testing.assert_close(merge.slerp([0 * a, a], torch.float32, weight=0.5), 0.5**0.5 * a)


def test_ties_by_hand():
    base = torch.tensor([1.0, 1.0, 1.0, 1.0])
    a = base + torch.tensor([4.0, 3.0, -2.0, 0.1])
    b = base + torch.tensor([2.0, -4.0, -4.0, 0.1])
    # Of each the largest three: a has 4, 3, −2 and b 2, −4, −4; in the second place b's sign wins.
    result = merge.ties([a, b, base], torch.float32, weight=0.5, density=0.75, scale=1.0)
    torch.testing.assert_close(result, base + torch.tensor([3.0, -4.0, -3.0, 0.0]))
    half = merge.ties([a, b, base], torch.float32, weight=0.5, density=0.75, scale=0.5)
    torch.testing.assert_close(half - base, (result - base) / 2)


def test_a_merged_checkpoint_is_whole_and_loads(two, monkeypatch):
    monkeypatch.setattr(merge, "BLOCK", 1000)  # several to a tensor
    progress = []
    merged = merge_two(two, advance=progress.append)
    a, b, out = (tensors_of(two / name) for name in ("a", "b", "out"))
    assert out.keys() == a.keys()
    for name, tensor in out.items():
        assert tensor.dtype == torch.bfloat16 and tensor.shape == a[name].shape
        assert torch.equal(tensor, ((a[name].float() + b[name].float()) / 2).bfloat16())
    assert merged.bytes == sum(progress) == sum(tensor.nbytes for tensor in out.values())
    model = AutoModelForCausalLM.from_pretrained(two / "out", dtype=torch.bfloat16)
    assert torch.equal(model.state_dict()[EMBEDDING], out[EMBEDDING])
    assert (
        AutoTokenizer.from_pretrained(two / "out").get_vocab() == AutoTokenizer.from_pretrained(two / "a").get_vocab()
    )
    assert {path.name for path in (two / "a").iterdir()} == {path.name for path in (two / "out").iterdir()}


def test_blocks_do_not_matter_and_the_dtype_is_chosen(two):
    merge_two(two, in_blocks=False, dtype="float32")
    a, b, out = (tensors_of(two / name) for name in ("a", "b", "out"))
    for name, tensor in out.items():
        torch.testing.assert_close(tensor, (a[name].float() + b[name].float()) / 2, rtol=0, atol=1e-7)
    assert json.loads((two / "out/config.json").read_text())["dtype"] == "float32"


def set_weight(directory, value):
    file = next(file for file in directory.glob("*.safetensors") if "model.norm.weight" in load_file(file))
    tensors = load_file(file)
    tensors["model.norm.weight"][3] = value
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("method", ["average", "slerp", "ties"])
def test_a_weight_that_is_not_finite_is_named(two, value, method):
    set_weight(two / "b", value)
    more = {"density": 0.2, "scale": 1.0} if method == "ties" else {}
    directories = [two / "a", two / "b", *([two / "a"] if method == "ties" else [])]
    with pytest.raises(
        CheckpointError, match=r"b/model.safetensors: model.norm.weight has a weight that is not finite"
    ):
        combine = partial(getattr(merge, method), weight=0.5, **more)
        merge.merge_checkpoints(directories, two / "out", combine)
    assert sorted(path.name for path in two.iterdir()) == ["a", "b"]


def test_what_float16_cannot_hold(two):
    for name in ("a", "b"):
        set_weight(two / name, 1e6)
    with pytest.raises(CheckpointError, match="model.norm.weight: the merged weights do not fit torch.float16"):
        merge_two(two, dtype="float16")


def test_a_checkpoint_that_is_being_written(two):
    shard = sorted((two / "a").glob("*.safetensors"))[1]
    whole = shard.read_bytes()
    shard.unlink()
    refused(two, f"{shard.name}: is missing")
    for size in (0, 5, 300, len(whole) - 1):
        shard.write_bytes(whole[:size])
        refused(two, f"{shard.name}: .*truncated, or still being written")
    shard.write_bytes(whole[:8] + b"?" + whole[9:])
    refused(two, f"{shard.name}: its header is not JSON")
    (two / "a/config.json").unlink()
    refused(two, "a: has no config.json")


def test_a_shard_without_what_the_index_has(two):
    shards = sorted((two / "a").glob("*.safetensors"))
    shutil.copyfile(shards[0], shards[1])
    refused(two, f"{shards[1].name} lacks ")


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_all_that_does_not_fit_is_said(two):
    edit(two / "b/config.json", architectures=["LlamaForCausalLM"], vocab_size=99)
    file = two / "b/model.safetensors"
    tensors = load_file(file)
    tensors[EMBEDDING] = torch.zeros(99, 128, dtype=torch.bfloat16)
    tensors.pop("model.norm.weight")
    tensors["more"] = torch.zeros(1)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError) as caught:
        merge_two(two)
    message = str(caught.value)
    for part in (
        "architectures is ['Qwen3ForCausalLM'] and ['LlamaForCausalLM']",
        "vocab_size is 21 and 99",
        f"{EMBEDDING} is [21, 128] and [99, 128]",
        "b lacks 'model.norm.weight'",
        "a lacks 'more'",
    ):
        assert part in message


def test_another_tokenizer(two):
    file = two / "b/tokenizer.json"
    original = json.loads(file.read_text())
    changed = json.loads(json.dumps(original))
    vocabulary = changed["model"]["vocab"]
    vocabulary["1"], vocabulary["2"] = vocabulary["2"], vocabulary["1"]
    file.write_text(json.dumps(changed))
    refused(two, "the tokenizers have other numbers for '1', '2'")
    file.write_text(json.dumps(original | {"normalizer": {"type": "Lowercase"}}))
    refused(two, "the tokenizers differ in normalizer")
    file.write_text(json.dumps(original | {"padding": None, "truncation": {"max_length": 9}}))
    merge_two(two)


def test_without_tokenizers(two):
    (two / "b/tokenizer.json").unlink()
    refused(two, "the tokenizers differ in tokenizer.json")
    (two / "a/tokenizer.json").unlink()
    refused(two, "neither has a tokenizer")


def test_a_tied_head_that_one_of_them_holds_is_left_out(two):
    file = two / "b/model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"lm_head.weight": tensors[EMBEDDING].clone()}, file, metadata={"format": "pt"})
    merge_two(two)
    assert "lm_head.weight" not in tensors_of(two / "out")


def test_tied_and_untied_do_not_fit(models, tmp_path):
    with pytest.raises(CheckpointError, match="tie_word_embeddings is True and False"):
        merge.merge_checkpoints([models / "a", models / "untied"], tmp_path / "out", AVERAGE)


def test_differences_without_harm_are_told(two):
    edit(two / "b/config.json", max_position_embeddings=512, transformers_version="0")
    file = two / "b/model.safetensors"
    save_file({name: tensor.float() for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    notes = merge_two(two).notes
    assert notes == [
        "config.json: max_position_embeddings is 256 and 512; the first is kept",
        f"{len(tensors_of(two / 'a'))} tensors are stored as BF16 and F32, as {EMBEDDING}",
    ]


@pytest.mark.parametrize(
    "file, changes, alike",
    [
        ("config.json", {"transformers_version": "0", "use_cache": False, "dtype": "float32"}, True),
        ("config.json", {"max_position_embeddings": 512}, False),
        ("config.json", {"rms_norm_eps": 1e-5}, False),
        ("config.json", {"vocab_size": 22}, False),
        ("generation_config.json", {"transformers_version": "0"}, True),
        ("generation_config.json", {"eos_token_id": [2, 3]}, False),
        ("tokenizer_config.json", {"max_length": 9, "truncation_side": "right"}, True),
        ("tokenizer_config.json", {"eos_token": "<pad>"}, False),
        ("tokenizer.json", {"normalizer": {"type": "Lowercase"}}, False),
        ("preprocessor_config.json", {"size": 9}, False),
    ],
)
def test_models_that_differ_in_more_than_weights(two, file, changes, alike):
    assert only_weights_differ(two / "a", two / "b")
    (two / "b" / file).touch()
    (two / "b" / file).write_text(json.dumps(json.loads((two / "b" / file).read_text() or "{}") | changes))
    assert only_weights_differ(two / "a", two / "b") == only_weights_differ(two / "b", two / "a") == alike


def test_a_model_that_is_not_whole_is_not_like_another(two):
    next((two / "a").glob("*.safetensors")).unlink()
    assert not only_weights_differ(two / "b", two / "a")
    assert not only_weights_differ(two / "b", two / "none")


def test_quantized_weights_cannot_be_merged(two):
    file = two / "b/model.safetensors"
    save_file(load_file(file) | {"scale": torch.ones(2, dtype=torch.int8)}, file)
    refused(two, "scale is I8; only BF16, F16, F32 can be merged")
    edit(two / "a/config.json", quantization_config={"bits": 4})
    refused(two, "a: is quantized")


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool])
def test_integer_buffers_are_copied(two, dtype):
    shard = sorted((two / "a").glob("*.safetensors"))[0]
    for file, number in ((shard, 1), (two / "b/model.safetensors", 1)):
        save_file(load_file(file) | {"seen": torch.tensor([[number, 0]], dtype=dtype)}, file, {"format": "pt"})
    index = two / "a/model.safetensors.index.json"
    placed = json.loads(index.read_text())
    placed["weight_map"]["seen"] = shard.name
    index.write_text(json.dumps(placed))
    assert merge_two(two).notes == []
    out = tensors_of(two / "out")
    assert out["seen"].dtype == dtype and out["seen"].tolist() == [[1, 0]]
    shutil.rmtree(two / "out")
    file = two / "b/model.safetensors"
    save_file(load_file(file) | {"seen": torch.tensor([[0, 1]], dtype=dtype)}, file, {"format": "pt"})
    assert merge_two(two).notes == ["seen holds other whole numbers; the first checkpoint's are kept"]
    assert tensors_of(two / "out")["seen"].tolist() == [[1, 0]]


def other_tokens(directory, tokens):
    """Give a model more tokens than it has, and two numbers swapped; the new rows of its embedding count up."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[-len(tokens) :] = torch.arange(len(tokens))[:, None] + 1.0
    for file in directory.iterdir():
        file.unlink()
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return tokenizer


@pytest.mark.parametrize("choice", ["first", "second", "union"])
def test_tokenizers_that_differ(two, choice):
    first = other_tokens(two / "a", ["<both>", "<first>"])
    second = other_tokens(two / "b", ["<second>", "<both>"])
    refused(two, "the tokenizers have other numbers for .*choose one with --tokenizer")
    a, b = (tensors_of(two / name)[EMBEDDING] for name in ("a", "b"))
    merged = merge_two(two, tokenizer=choice, dtype="float32")
    assert any(f"the tokenizer is the {choice}" in note for note in merged.notes)
    out, found = AutoTokenizer.from_pretrained(two / "out"), tensors_of(two / "out")[EMBEDDING]
    expected = {"first": set(first.get_vocab()), "second": set(second.get_vocab())}
    expected["union"] = expected["first"] | expected["second"]
    assert set(out.get_vocab()) == expected[choice]
    assert len(found) == len(out) == json.loads((two / "out/config.json").read_text())["vocab_size"]
    for token, number in out.get_vocab().items():
        rows = [
            tensor[tokenizer.get_vocab()[token]]
            for tokenizer, tensor in ((first, a), (second, b))
            if token in tokenizer.get_vocab()
        ]
        torch.testing.assert_close(found[number], torch.stack(rows).mean(0), msg=token)
    text = "".join(sorted(expected[choice] - set(first.get_vocab())) + ["<both>", "1+1"])
    assert out.decode(out(text)["input_ids"]).replace(" ", "") == text
    AutoModelForCausalLM.from_pretrained(two / "out")


def test_a_union_of_other_words_is_refused(two):
    file = two / "b/tokenizer.json"
    tokenizer = json.loads(file.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["%"] = vocabulary.pop("1")
    file.write_text(json.dumps(tokenizer))
    with pytest.raises(CheckpointError, match="splits text into other words, as '%'"):
        merge_two(two, tokenizer="union")
    merge_two(two, tokenizer="first")


def test_nothing_is_overwritten(two):
    (two / "out").mkdir()
    (two / "out/mine").touch()
    refused(two, "out: is there already", FileExistsError)
    assert (two / "out/mine").exists()


def test_a_killed_merge_leaves_nothing_under_the_name(two, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", kill)
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)  # as if it could not clean up either
        with pytest.raises(Killed):
            merge_two(two)
    assert not (two / "out").exists() and (two / "out.partial").exists()
    merge_two(two)
    assert not (two / "out.partial").exists()
    assert {path.name for path in (two / "a").iterdir()} == {path.name for path in (two / "out").iterdir()}


def test_the_header_is_what_the_library_reads(tmp_path):
    shapes = {"b": (2, 3), "a": (), "empty": (0, 4)}
    numbers = torch.arange(7, dtype=torch.float32)
    (tmp_path / "x.safetensors").write_bytes(
        merge.header({name: (shape, "F32") for name, shape in shapes.items()}) + numbers.numpy().tobytes()
    )
    loaded = load_file(tmp_path / "x.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in loaded.items()} == shapes
    assert torch.equal(loaded["b"].flatten(), numbers[:6]) and loaded["a"] == 6
    assert [name for name, _ in read_header(tmp_path / "x.safetensors")] == ["b", "a", "empty"]
