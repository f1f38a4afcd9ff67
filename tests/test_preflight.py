"""The checks before a run, each on real files, sockets and environment variables."""

import importlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from openrlhf.utils.config import hierarchize

from kimi_plugins.data import containers, training
from kimi_plugins.data.shards import Unreadable
from kimi_plugins.preflight import (
    cluster,
    configuration_problems,
    join,
    machine,
    machine_problems,
    models,
    outputs,
    rewards,
    values,
)
from kimi_plugins.rewards import settings as rewards_settings

ROWS = [{"input": f"{n} + {n} =", "label": str(2 * n)} for n in range(64)]
PAIRS = [{"chosen": f"{n} yes", "rejected": f"{n} no"} for n in range(128)]

SHARED = {
    "use_ms": False,
    "ckpt.path": "ckpt/steps",
    "ckpt.output_dir": "ckpt",
    "ckpt.save_steps": -1,
    "ckpt.load_enable": False,
    "data.apply_chat_template": False,
    "data.max_len": 512,
    "data.max_samples": 10**8,
    "ds.attn_implementation": "sdpa",
    "ds.packing_samples": False,
    "ds.ring_attn_size": 1,
    "ds.tensor_parallel_size": 1,
    "ds.use_universal_ckpt": False,
    "ds.zero_stage": 2,
    "eval.dataset": None,
    "eval.split": "train",
    "eval.steps": -1,
    "logger.tensorboard_dir": None,
    "train.batch_size": 32,
    "train.micro_batch_size": 8,
}
RL = (
    values.defaults()
    | SHARED
    | {
        "actor.model_name_or_path": "model",
        "actor.num_gpus_per_node": 1,
        "algo.advantage.estimator": "dr_grpo",
        "algo.kl.init_coef": 0.0,
        "data.label_key": "label",
        "data.prompt_dataset": "prompts.jsonl",
        "kimi.rollout.overlap": False,
        "reward.remote_url": "reward.py",
        "rollout.batch_size": 16,
        "rollout.micro_batch_size": 8,
        "rollout.n_samples_per_prompt": 4,
        "train.colocate_all": True,
        "vllm.num_engines": 1,
        "vllm.sync_backend": "gloo",
    }
)
TRAINER = SHARED | {
    "data.dataset_probs": None,
    "data.dataset_split": "train",
    "model.model_name_or_path": "model",
    "train.max_epochs": 1,
}
SFT = TRAINER | {
    "data.dataset": "prompts.jsonl",
    "data.input_key": "input",
    "data.multiturn": False,
    "data.output_key": "label",
    "model.pretrain_mode_enable": False,
}
PREFERENCES = TRAINER | {
    "data.chosen_key": "chosen",
    "data.dataset": "pairs.jsonl",
    "data.prompt_key": None,
    "data.rejected_key": "rejected",
}
DEFAULTS = {"train": RL, "sft": SFT, "dpo": PREFERENCES | {"ref.model_name_or_path": None}, "rm": PREFERENCES}

# Files that datasets loads, and others that it does not.
FILES = {
    "array.json": b' [{"input": "a"},\n {"input": "b"}]',
    "array_cut.json": b'[{"input": "a"}, {"input": "b"',
    "array_mixed.json": b'[{"input": "a"}, "b"]',
    "blank.jsonl": b'{"input": "a"}\n\n  \n{"input": "b"}\n\n',
    "bom.jsonl": b'\xef\xbb\xbf{"input": "a"}\n',
    "control.jsonl": b'{"input": "a\tb"}\n',
    "crlf.jsonl": b'{"input": "a"}\r\n{"input": "b"}\r\n',
    "cut.jsonl": b'{"input": "a"}\n{"input": "b"\n{"input": "c"}\n',
    "empty.jsonl": b"",
    "empty_array.json": b"[]",
    "latin.jsonl": '{"input": "é"}\n'.encode("latin-1"),
    "list.jsonl": b'{"input": "a"}\n["b"]\n',
    "mixed.jsonl": b'{"input": "a", "label": 3}\n{"input": "b", "label": "x"}\n',
    "nan.jsonl": b'{"input": "a", "x": NaN}\n{"input": "b", "x": Infinity}\n',
    "one_line.jsonl": b'{"input": "a"} {"input": "b"}\n{"input": "c"}\n',
    "pretty.json": b'{\n "input": "a"\n}\n{\n "input": "b"\n}\n',
    "quotes.jsonl": b"{'input': 'a'}\n",
    "separator.jsonl": '{"input": "a\u2028b"}\n'.encode(),
    "text.jsonl": b'{"input": "a"}\n"b"\n',
    "trailing_comma.jsonl": b'{"input": "a",}\n',
    "good.csv": b'input,label\n"a, b",1\nc,\n',
    "head.csv": b"input,label\n",
    "latin.csv": "input\né\n".encode("latin-1"),
    "long_row.csv": b"input,label\nb,2\na,1,2\n",
    "short_row.csv": b"input,label\nb\n",
}


def nest(flat):
    return hierarchize(SimpleNamespace(**flat))


def problems(args, command):
    """As the command does it: the machine is looked at once the configuration is right."""
    return configuration_problems(args, command) or machine_problems(args, command)


def found(command="train", **changed):
    """Problems of a good configuration with some keys changed; `__` stands for the dot."""
    changed = {key.replace("__", "."): value for key, value in changed.items()}
    assert set(changed) <= set(DEFAULTS[command])
    lines = problems(nest(DEFAULTS[command] | changed), command)
    assert all(re.fullmatch(r"\S+: .+; .+", line) for line in lines), lines  # key, value, fix on one line
    return lines


def only(command="train", **changed):
    lines = found(command, **changed)
    assert len(lines) == 1, lines
    return lines[0]


def write_rows(path, rows):
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A directory with a model, data and a reward; a machine without accelerators, whatever this one has."""
    monkeypatch.chdir(tmp_path)
    unset = ("RAY_ADDRESS", "MASTER_PORT", "RANK", "WORLD_SIZE", "TORCHELASTIC_USE_AGENT_STORE", "HF_HUB_OFFLINE")
    for name in (*unset, "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "CUDA_VISIBLE_DEVICES", machine.KV_SPACE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "built"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(machine, "NVIDIA_DEVICES", (str(tmp_path / "dev/nvidia[0-9]*"),))
    monkeypatch.setattr(machine, "OTHER_ACCELERATORS", (str(tmp_path / "dev/kfd"),))
    monkeypatch.setattr(
        join, "check_cluster", lambda args: iter(())
    )  # see test_cluster.py and stack/test_two_hosts.py
    make_model(tmp_path / "model")
    write_rows("prompts.jsonl", ROWS)
    write_rows("pairs.jsonl", PAIRS)
    Path("reward.py").write_text("def reward_func(queries, prompts, labels):\n    return {'rewards': 1}\n")
    return tmp_path


def make_model(directory, without=()):
    directory.mkdir(parents=True)
    files = {"config.json": '{"model_type": "qwen2"}', "model.safetensors": "weights", "tokenizer.json": "{}"}
    for name in set(files) - set(without):
        (directory / name).write_text(files[name])


def make_devices(count):
    Path("dev").mkdir()
    for index in range(count):
        Path(f"dev/nvidia{index}").touch()


@contextmanager
def serve(answer):
    """The port of a server on the loopback interface that says `answer` to whatever it is told, and hangs up."""

    def reply():
        with suppress(OSError):  # closed at the end
            while True:
                connection, _ = server.accept()
                with connection:
                    if answer is not None and connection.recv(100):
                        connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=reply)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.fixture
def listening():
    """The port of a server that answers as gRPC's do: with an empty SETTINGS frame (RFC 9113, 6.5)."""
    with serve(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])) as port:
        yield port


@pytest.fixture
def silent():
    """A port that nothing listens on."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.mark.parametrize("command", DEFAULTS)
def test_a_good_configuration_has_no_problems(command):
    assert found(command) == []


def test_all_problems_come_at_once():
    lines = found(
        actor__model_name_or_path="/nowhere", data__prompt_dataset="nothing.jsonl", vllm__sync_backend="nccl"
    )
    assert len(lines) == 3


class Refusing:
    """A row check that knows no good row after the first."""

    def __init__(self):
        self.options = []

    def row(self, option, row, prompt, problem):
        self.options.append(option)
        if row.number > 1:
            yield f"{prompt.messages[0]['content']!r} is refused"

    def end(self):
        yield f"kimi.refusing: {len(self.options)} rows; give fewer"


def test_each_data_set_is_read_once_for_all_that_ask_of_its_rows(monkeypatch):
    write_rows("two.jsonl", ROWS[:2])
    opened, read = training.opened, []
    monkeypatch.setattr(training, "opened", lambda name, *rest: read.append(name) or opened(name, *rest))
    args = nest(RL | {"data.prompt_dataset": "two.jsonl", "eval.dataset": "two.jsonl"})
    alone, checks = Refusing(), [Refusing(), Refusing()]
    found = machine_problems(args, "train", checks)
    assert read == ["two.jsonl"] * 2
    assert [line.partition(":")[0] for line in found] == ["data.prompt_dataset", "eval.dataset"] + [
        "kimi.refusing"
    ] * 2
    assert checks[0].options == ["data.prompt_dataset"] * 2 + ["eval.dataset"] * 2
    told = list(training.checked(args, alone))  # as of one plugin without kimi-preflight
    assert told == [
        "data.prompt_dataset: two.jsonl row 2: '1 + 1 =' is refused",
        "eval.dataset: two.jsonl row 2: '1 + 1 =' is refused",
        "kimi.refusing: 4 rows; give fewer",
    ]


def test_imports_nothing_heavy():
    heavy = ("torch", "ray", "vllm", "deepspeed", "transformers", "datasets", "pyarrow", "pandas")
    code = f"import sys, kimi_plugins.preflight; print([name for name in {heavy} if name in sys.modules])"
    root = Path(__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("key", ["train__batch_size", "rollout__micro_batch_size", "vllm__num_engines"])
@pytest.mark.parametrize("value", [0, None])
def test_sizes_below_one(key, value):
    assert only(**{key: value}) == f"{key.replace('__', '.')}: {value}; set it to 1 or more"


@pytest.mark.parametrize("command", ["sft", "dpo", "rm"])
def test_trainer_sizes_below_one(command):
    assert only(command, train__micro_batch_size=0).startswith("train.micro_batch_size: 0; ")


class TestModels:
    @pytest.mark.parametrize("path", ["/nowhere", "./nowhere", "a/b/c", "~/model"])
    def test_missing_path(self, path):
        assert only(actor__model_name_or_path=path).startswith(f"actor.model_name_or_path: {path} does not exist")

    def test_not_set(self):
        assert "actor.model_name_or_path: not set" in only(actor__model_name_or_path=None)
        assert "model.model_name_or_path: not set" in only("sft", model__model_name_or_path=None)

    @pytest.mark.parametrize(
        "file, word",
        [("config.json", "no config.json"), ("model.safetensors", "weights"), ("tokenizer.json", "tokenizer")],
    )
    def test_incomplete_directory(self, place, file, word):
        make_model(place / "broken", without=[file])
        assert word in only(actor__model_name_or_path="broken")

    def test_malformed_config(self, place):
        make_model(place / "broken")
        (place / "broken/config.json").write_text("{")
        assert "unreadable config.json" in only(actor__model_name_or_path="broken")

    def test_missing_shard(self, place):
        index = {"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}
        (place / "model/model.safetensors.index.json").write_text(json.dumps(index))
        assert "lacks model-00002.safetensors" in only()
        (place / "model/model-00002.safetensors").touch()
        assert found() == []

    def test_file_instead_of_directory(self):
        assert "is a file" in only(actor__model_name_or_path="model/config.json")

    @pytest.mark.parametrize("name", ["gpt2", "Qwen/Qwen3-0.6B"])
    def test_hub_name(self, place, monkeypatch, name):
        assert found(actor__model_name_or_path=name) == []
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert "HF_HUB_OFFLINE" in only(actor__model_name_or_path=name)
        make_model(place / "hf/hub" / f"models--{name.replace('/', '--')}" / "snapshots/abc")
        assert found(actor__model_name_or_path=name) == []

    def test_reward_model_is_checked_only_when_used(self):
        unused = {"reward__model_name_or_path": "/nowhere", "reward__num_gpus_per_node": 1}
        assert "reward.model_name_or_path: /nowhere has no effect" in only(**unused)
        assert "reward.model_name_or_path: /nowhere does not exist" in only(reward__remote_url=None, **unused)

    def test_critic_is_checked_only_with_gae(self):
        assert found(critic__model_name_or_path="/nowhere") == []
        line = only(
            critic__model_name_or_path="/nowhere", algo__advantage__estimator="gae", critic__num_gpus_per_node=1
        )
        assert line.startswith("critic.model_name_or_path: /nowhere")

    def test_a_chat_template_is_where_transformers_looks_for_it(self, place):
        asked = {"data__apply_chat_template": True}
        assert found(**asked) == []  # a tokenizer without a configuration is the hub's to explain
        configuration = place / "model/tokenizer_config.json"
        configuration.write_text("{}")
        assert only(**asked).startswith(
            "data.apply_chat_template: actor.model_name_or_path model has no chat template"
        )
        assert found() == []
        configuration.write_text('{"chat_template": "{{ messages }}"}')
        assert found(**asked) == []
        configuration.write_text("{}")
        (place / "model/chat_template.jinja").touch()
        assert found(**asked) == []

    def test_images(self, place, monkeypatch):
        assert "no vision_config" in only(data__max_images_per_prompt=1)
        (place / "model/config.json").write_text('{"vision_config": {}}')
        assert "has no processor_config.json or preprocessor" in only(data__max_images_per_prompt=1)
        (place / "model/preprocessor_config.json").touch()
        assert found(data__max_images_per_prompt=1) == []
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert "torchvision" in only(data__max_images_per_prompt=1)
        assert found() == []

    def test_reference_of_dpo_needs_no_tokenizer(self, place):
        make_model(place / "reference", without=["tokenizer.json"])
        assert found("dpo", ref__model_name_or_path="reference") == []
        assert "ref.model_name_or_path: /nowhere" in only("dpo", ref__model_name_or_path="/nowhere")

    def test_images_are_not_packed(self, place):
        (place / "model/config.json").write_text('{"vision_config": {}}')
        (place / "model/preprocessor_config.json").touch()
        line = only(data__max_images_per_prompt=1, ds__packing_samples=True)
        assert line.startswith("data.max_images_per_prompt: 1, and samples with images cannot be packed")


def configured(directory, **config):
    """A model with this config.json; `__` in a key stands for the dictionary within."""
    nested: dict = {}
    for key, value in config.items():
        outer, _, inner = key.rpartition("__")
        (nested.setdefault(outer, {}) if outer else nested)[inner] = value
    (directory / "config.json").write_text(json.dumps(nested))


class TestParts:
    def test_experts_and_a_visual_tower(self):
        experts = {"ds__experts_implementation": "grouped_mm"}
        assert only(**experts).startswith("ds.experts_implementation: grouped_mm has no effect")
        assert only(actor__aux_loss_coef=0.01).startswith("actor.aux_loss_coef: 0.01 has no effect")
        assert only(actor__freeze_visual_encoder=True).startswith("actor.freeze_visual_encoder: has no effect")
        make_model(Path("moe"))
        configured(Path("moe"), num_experts=8, vision_config={})
        given = {"actor__aux_loss_coef": 0.01, "actor__freeze_visual_encoder": True}
        assert found(actor__model_name_or_path="moe", **given, **experts) == []

    def test_adapted_layers(self):
        shapes = {f"model.layers.0.{name}.weight": [4, 4] for name in ("q_proj", "v_proj")} | {"norm.weight": [4]}
        header = json.dumps({name: {"dtype": "F32", "shape": shape} for name, shape in shapes.items()}).encode()
        Path("model/model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
        adapters = {"ds__lora__rank": 4, "train__colocate_all": True}
        assert found(**adapters, ds__lora__target_modules="all-linear") == []
        assert found(**adapters, ds__lora__target_modules=["q_proj", "layers.0.v_proj"]) == []
        line = only(**adapters, ds__lora__target_modules=["q_proj", "query", "norm"])
        assert "target_modules: query, norm: no layer of" in line and "choose some of q_proj, v_proj" in line


class TestLongContext:
    @pytest.mark.parametrize("command", DEFAULTS)
    def test_context_beyond_the_models(self, place, monkeypatch, command):
        key = "actor" if command == "train" else "model"
        configured(place / "model", max_position_embeddings=512)
        assert found(command) == []
        line = only(command, data__max_len=513)
        assert line.startswith(f"data.max_len: 513 tokens, and {key}.model_name_or_path model has a context of 512")
        monkeypatch.setenv("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "1")
        assert found(command, data__max_len=513) == []

    def test_context_of_a_model_of_the_hub(self, place):
        make_model(place / "hf/hub/models--some--model/snapshots/abc")
        configured(place / "hf/hub/models--some--model/snapshots/abc", n_positions=256)
        assert "a context of 256" in only(actor__model_name_or_path="some/model")
        assert found(actor__model_name_or_path="some/other") == []

    @pytest.mark.parametrize(
        "config, limit",
        [
            ({}, None),
            ({"max_position_embeddings": None}, None),
            ({"max_position_embeddings": 4096, "n_positions": 1024}, 1024),
            ({"text_config__max_position_embeddings": 4096, "max_position_embeddings": 16}, 4096),
            ({"max_position_embeddings": 4096, "rope_scaling": None}, 4096),
            ({"max_position_embeddings": 4096, "rope_scaling__type": "linear", "rope_scaling__factor": 4.0}, 16384),
            (
                {
                    "max_position_embeddings": 32768,
                    "rope_parameters__rope_type": "yarn",
                    "rope_parameters__factor": 4.0,
                    "rope_parameters__original_max_position_embeddings": 16384,
                },
                65536,
            ),
            ({"max_position_embeddings": 131072, "rope_parameters__rope_type": "llama3"}, 131072),
            ({"max_position_embeddings": 8, "rope_parameters": {"full": {"rope_type": "linear", "factor": 2}}}, 16),
        ],
    )
    def test_context_by_config(self, place, config, limit):
        configured(place / "model", **config)
        assert models.context(json.loads((place / "model/config.json").read_text())) == limit

    @pytest.mark.parametrize(
        "config, named",
        [
            ({"max_position_embeddings": "many"}, "max_position_embeddings 'many'"),
            ({"max_position_embeddings": float("inf")}, "max_position_embeddings inf"),
            ({"rope_parameters": [1, 2]}, "rope_parameters [1, 2]"),
            ({"rope_scaling": "yarn"}, "rope_scaling 'yarn'"),
            ({"rope_parameters__rope_type": "yarn", "rope_parameters__factor": "four"}, "factor 'four'"),
            ({"layer_types": "mamba"}, "layer_types 'mamba'"),
            ({"layer_types": [{"kind": "mamba"}]}, "layer_types [{'kind': 'mamba'}]"),
        ],
    )
    def test_a_config_that_transformers_did_not_write(self, place, config, named):
        configured(place / "model", **{"max_position_embeddings": 512} | config)
        line = only(ds__packing_samples=True)
        assert line.startswith("actor.model_name_or_path: ") and f" has {named} in its config.json; " in line

    def test_no_room_for_a_prompt(self):
        assert found(rollout__max_new_tokens=511) == []
        line = only(rollout__max_new_tokens=512)
        assert line.startswith("rollout.max_new_tokens: 512 leaves no room for a prompt in data.max_len 512; ")

    @pytest.mark.parametrize("command", DEFAULTS)
    def test_packing_what_cannot_be_told_apart(self, place, command):
        configured(place / "model", model_type="qwen2_5_vl", vision_config={})
        assert found(command) == []
        assert "is a qwen2_5_vl, whose positions" in only(command, ds__packing_samples=True)
        configured(place / "model", model_type="qwen3_5", text_config__layer_types=["linear_attention"])
        assert "has linear_attention layers" in only(command, ds__packing_samples=True)
        configured(place / "model", model_type="gemma3", text_config__layer_types=["sliding_attention"])
        assert found(command, ds__packing_samples=True) == []

    @pytest.mark.parametrize("command", ["train", "sft", "dpo"])
    def test_a_model_without_an_output_head(self, place, command):
        for name in ("Qwen3Model", "Qwen3ForSequenceClassification"):
            configured(place / "model", architectures=[name], tie_word_embeddings=False)
            assert f"is a {name}, which has no output head" in only(command)
        assert found("rm") == []
        configured(place / "model", architectures=["Qwen3Model"], tie_word_embeddings=True)
        assert found(command) == []
        for name in ("Qwen3ForCausalLM", "GPT2LMHeadModel", "Qwen3VLForConditionalGeneration"):
            configured(place / "model", architectures=[name], tie_word_embeddings=False)
            assert found(command) == []


class TestData:
    def test_missing_file(self):
        assert "data.prompt_dataset: no.jsonl does not exist" in only(data__prompt_dataset="no.jsonl")
        assert "eval.dataset: no.csv does not exist" in only(eval__dataset="no.csv", eval__steps=1)
        assert "data.dataset: no.jsonl does not exist" in only("sft", data__dataset="no.jsonl")

    def test_not_set(self):
        assert "data.prompt_dataset: not set" in only(data__prompt_dataset=None)

    def test_malformed_row_by_its_line(self):
        lines = [json.dumps(row) for row in ROWS]
        lines[6] = lines[6][:-1]
        Path("bad.jsonl").write_text("\n".join(lines))
        assert "bad.jsonl row 7: not valid JSON" in only(data__prompt_dataset="bad.jsonl")

    def test_many_bad_rows_are_counted(self):
        rows = [row if n % 2 else {"question": "?", "label": "1"} for n, row in enumerate(ROWS)]
        line = only(data__prompt_dataset=write_rows("bad.jsonl", rows))
        assert "rows 1, 3, 5 and 29 more: no question: the row lacks the column input; it has question, label" in line

    def test_rows_without_a_common_shape_stay_few_lines(self):
        rows = [{f"key{n}": n} for n in range(50)]
        assert "no column for question and answer; its columns are key0, key1" in only(
            data__prompt_dataset=write_rows("bad.jsonl", rows)
        )
        assert len(found("sft", data__dataset="bad.jsonl")) == 6

    def test_a_column_that_an_option_names_is_missing(self):
        assert "prompts.jsonl: no column 'qestion'; set data.input_key to one of its columns: input, label" in only(
            data__input_key="qestion"
        )

    def test_a_shape_is_recognised_where_the_usual_columns_are_missing(self, capsys):
        rows = [{"prompt": [{"role": "user", "content": "?"}], "reward_model": {"ground_truth": "1"}}] * 64
        write_rows("verl.jsonl", rows)
        assert found(data__prompt_dataset="verl.jsonl", data__apply_chat_template=True) == []
        named = "data.prompt_dataset: verl.jsonl: verl (question = prompt, answer = reward_model.ground_truth)\n"
        assert capsys.readouterr().out.startswith(named)
        line = only(data__prompt_dataset="verl.jsonl", data__apply_chat_template=True, data__label_key=None)
        assert "data.label_key: not set, and verl.jsonl has the shape verl" in line

    @pytest.mark.parametrize(
        "row, text",
        [
            ({"input": "1"}, "no answer: the row lacks the column label; it has input"),
            ({"label": "1"}, "no question: the row lacks the column input; it has label"),
            ({"input": None, "label": "1"}, "no question: input is null"),
            ({"input": "", "label": "1"}, "no question: input is empty"),
            ({"input": [], "label": "1"}, "no question: input has no messages"),
            ({"input": "1", "label": None}, "no answer: label is null"),
            ({"input": "<image>", "label": "1"}, "has 1 × <image> and 0 images"),
            (
                {"input": [{"role": "user", "content": "1"}], "label": "1"},
                "holds messages, not text; set data.apply_chat_template",
            ),
            ("text", "is a str, not an object"),
            (None, "is a NoneType, not an object"),
            ([1], "is a list, not an object"),
        ],
    )
    def test_bad_row(self, row, text):
        assert f"row 65: {text}" in only(data__prompt_dataset=write_rows("bad.jsonl", [*ROWS, row]))

    def test_rows_that_are_never_used_may_lack_keys(self):
        write_rows("tail.jsonl", [*ROWS, {"other": 1}])
        assert found(data__prompt_dataset="tail.jsonl", data__max_samples=64) == []
        assert "row 65" in only(data__prompt_dataset="tail.jsonl", data__max_samples=65)

    def test_labels_may_be_absent_without_a_label_key(self):
        assert found(data__prompt_dataset=write_rows("p.jsonl", [{"input": "1"}] * 64), data__label_key=None) == []

    def test_messages_with_a_chat_template(self):
        rows = [{"input": [{"role": "user", "content": "1"}], "label": "1"}] * 64
        assert found(data__prompt_dataset=write_rows("chat.jsonl", rows), data__apply_chat_template=True) == []

    @pytest.mark.parametrize("text", ["", "\n \n", "[]"])
    def test_empty(self, text):
        Path("empty.json").write_text(text)
        assert "data.prompt_dataset: empty.json holds no rows" in only(data__prompt_dataset="empty.json")

    def test_not_utf8(self):
        body = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
        Path("latin.jsonl").write_bytes(body + '{"input": "é", "label": "1"}\n'.encode("latin-1"))
        assert "latin.jsonl row 65: not UTF-8" in only(data__prompt_dataset="latin.jsonl")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_unreadable(self):
        Path("prompts.jsonl").chmod(0)
        assert "cannot be read" in only()

    def test_unreadable_because_it_is_no_parquet_file(self):
        Path("p.parquet").write_bytes(b"text")
        assert "p.parquet: not a Parquet file; download it again" in only(data__prompt_dataset="p.parquet")

    def test_unknown_format(self):
        Path("prompts.txt").write_text("1 + 1")
        assert "prompts.txt: unknown format; convert it to JSONL" in only(data__prompt_dataset="prompts.txt")

    def test_lists_patterns_and_directories(self):
        Path("more").mkdir()
        assert "more: a directory without data files; give one with" in only(data__prompt_dataset="more")
        write_rows("more/a.jsonl", ROWS)
        write_rows("more/b.jsonl", [{"input": "1"}])
        assert "row 1 of more/b.jsonl: no answer: the row lacks" in only(data__prompt_dataset="more")
        assert found(data__prompt_dataset="prompts.jsonl, more/a.jsonl") == []
        assert "row 1 of more/b.jsonl: no answer" in only(data__prompt_dataset="more/*.jsonl")
        assert "more/c is missing" in only(data__prompt_dataset="more@c")

    def test_hub_name(self, place, monkeypatch):
        assert found(data__prompt_dataset="openai/gsm8k@main") == []
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert "openai/gsm8k is neither a path here" in only(data__prompt_dataset="openai/gsm8k")
        (place / "hf/datasets/openai___gsm8k").mkdir(parents=True)
        assert found(data__prompt_dataset="openai/gsm8k") == []

    def test_split_of_a_file(self, capsys):
        assert found(data__prompt_split="test") == []
        assert "data.prompt_split: test: no effect: prompts.jsonl is one split" in capsys.readouterr().out
        assert only("sft", data__dataset_split="test").startswith("data.dataset_split: 'test', but a file")
        assert only("dpo", eval__dataset="pairs.jsonl", eval__split="test").startswith("eval.split: 'test'")

    @pytest.mark.parametrize("probs, good", [("0.5,0.5", True), ("0.5,0.6", False), ("1", False), ("a,b", False)])
    def test_probabilities(self, probs, good):
        lines = found(data__prompt_dataset="prompts.jsonl,prompts.jsonl", data__prompt_probs=probs)
        assert [line.split(":")[0] for line in lines] == ([] if good else ["data.prompt_probs"])

    def test_twenty_thousand_rows(self):
        write_rows("large.jsonl", [{"input": "word " * 60, "label": str(n)} for n in range(20_000)])
        assert found(data__prompt_dataset="large.jsonl") == []


class TestTrainerData:
    def test_sft_needs_a_response(self):
        assert "data.output_key: not set" in only("sft", data__output_key=None)
        assert found("sft", data__output_key=None, model__pretrain_mode_enable=True) == []

    def test_sft_text_with_a_chat_template_alone(self):
        line = only("sft", data__output_key=None, data__apply_chat_template=True)
        assert "'input' holds text" in line
        assert found("sft", data__apply_chat_template=True) == []

    def test_missing_keys(self):
        assert "no key 'output'" in only("sft", data__output_key="output")
        assert "no key 'rejected'" in only("rm", data__dataset=write_rows("p.jsonl", [{"chosen": "a"}] * 128))
        assert "'chosen' is null" in only(
            "dpo", data__dataset=write_rows("p.jsonl", [{**PAIRS[0], "chosen": None}] * 64)
        )
        assert "no key 'prompt'" in only("dpo", data__prompt_key="prompt")

    @pytest.mark.parametrize("command", ["sft", "dpo"])
    def test_fewer_rows_than_a_batch(self, command):
        write_rows("few.jsonl", [{**row, **pair} for row, pair in zip(ROWS[:31], PAIRS, strict=False)])
        assert "31 rows do not make one batch" in only(command, data__dataset="few.jsonl")

    def test_sft_windows_span_epochs(self):
        write_rows("few.jsonl", ROWS[:16])
        assert found("sft", data__dataset="few.jsonl", train__max_epochs=2) == []

    def test_reward_model_normalises_on_a_hundredth(self):
        write_rows("few.jsonl", PAIRS[:99])
        assert only("rm", data__dataset="few.jsonl").startswith("eval.dataset: not set")
        assert found("rm", data__dataset="few.jsonl", eval__dataset="pairs.jsonl") == []


class TestReward:
    def test_none(self):
        assert only(reward__remote_url=None, reward__num_gpus_per_node=1).startswith("reward.remote_url: not set")

    @pytest.mark.parametrize(
        "source, good",
        [
            ("def reward_func(queries, prompts, labels): return {'rewards': 1}", True),
            ("from rewards import reward_func", True),
            ("from rewards import *", True),
            ("from rewards import grade as reward_func", True),
            ("reward_func = print", True),
            ("if True:\n    def reward_func(q, p, l): return {'rewards': 1}\nelse:\n    reward_func = None", True),
            ("def make():\n    global reward_func\n    def reward_func(q, p, l): return {'rewards': 1}\nmake()", True),
            ("reward_func = lambda queries, prompts, labels: {'rewards': 1}", True),
            ("def reward_func(q, p, l):\n    raise NotImplementedError", True),
            ("@wrapped\nasync def reward_func(): ...", True),  # by the decorator it may be anything
            ("def reward(queries, prompts, labels): return {'rewards': 1}", False),
            ("class Rewards:\n    def reward_func(self, queries, prompts): return {'rewards': 1}", False),
            ("def make():\n    def reward_func(queries, prompts, labels): return {'rewards': 1}", False),
            (
                "if __name__ == '__main__':\n    def reward_func(queries, prompts, labels): return {'rewards': 1}",
                False,
            ),
            ("found = [reward_func for reward_func in ()]", False),
            ("reward_func = 3", False),
            ("reward_func = None", False),
            ("class reward_func: ...", False),
            ("async def reward_func(queries, prompts, labels): return {'rewards': 1}", False),
            ("def reward_func(queries, prompts, labels): yield {}", False),
            ("def reward_func(queries, prompts, labels): print(queries)", False),
            ("def reward_func(queries, prompts, labels):\n    def inner(): return {'rewards': 1}\n    inner()", False),
            ("reward_func = lambda: {}", False),
            ("from functools import partial\nreward_func = partial(print, 1)", True),
            ("class Grader:\n    def __call__(self, q, p, l): return {'rewards': 1}\nreward_func = Grader()", True),
            ("def grade(q, p, l): return {'rewards': 1}\nreward_func: object = grade", True),
            ("def reward_func(q, p, l):\n    if not q: return None\n    return dict(rewards=1)", True),
            ("def reward_func(q, p, l): return {**q[0]}", True),
            ("def grade(q, p): return {'rewards': 1}\nreward_func = grade", False),
            ("reward_func: int = 3", False),
            ("reward_func: int", False),
            ("def reward_func(q, p, l): return None", False),
            ("def reward_func(q, p, l): return 1.0", False),
            ("def reward_func(q, p, l): return float(l[0] in q[0])", False),
            ("def reward_func(q, p, l): return [float(x in y) for x, y in zip(l, q)]", False),
            ("def reward_func(q, p, l): return {'reward': 1.0, 'scores': 1.0}", False),
            ("from .rewards import reward_func", False),
            ("print(reward_func)", False),
            ("def reward_func(:", False),
        ],
    )
    def test_file(self, source, good):
        Path("reward.py").write_text(source)
        lines = found(reward__remote_url=["reward.py"])
        assert bool(lines) != good and all("reward.py" in line for line in lines)

    def test_file_is_read_not_run(self):
        Path("reward.py").write_text(
            "open('ran', 'w')\ndef reward_func(queries, prompts, labels): return {'rewards': 1}\n"
        )
        assert found() == [] and not Path("ran").exists()

    def test_missing_file(self):
        assert "reward.remote_url: no.py does not exist" in only(reward__remote_url="no.py")
        assert found(reward__remote_url=["plugin"]) == []  # a plugin's function grades
        assert "train.agent_func_path: no.py does not exist" in only(train__agent_func_path="no.py")

    @pytest.mark.parametrize(
        "parameters, right",
        [
            ("queries, prompts, labels", True),
            ("queries, prompts, labels, more=None, *, key=1", True),
            ("*rest", True),
            ("query, *rest", True),
            ("response, label", False),
            ("queries, prompts, labels, extra", False),
            ("queries, prompts, labels, *, key", False),
            ("", False),
        ],
    )
    def test_a_functions_arguments(self, parameters, right):
        Path("reward.py").write_text(f"def reward_func({parameters}): return {{'rewards': 1}}")
        if right:
            assert found() == []
        else:
            assert "reward.py: reward_func is called with three arguments" in only()

    def test_what_a_file_imports_must_be_there(self):
        imports = "import json, torch\nfrom helper.scores import score\n\n"
        imports += "try:\n    import not_here\nexcept ImportError: ...\n"
        function = "\ndef reward_func(queries, prompts, labels): return {'rewards': 1}\n"
        Path("reward.py").write_text(imports + function)
        assert "reward.py imports helper, which is not installed" in only()
        Path("helper").mkdir()
        assert found() == []
        Path("reward.py").write_text(imports.replace("import json", "import json, not_there.at_all") + function)
        assert "reward.py imports not_there, which is not installed" in only()

    @pytest.mark.parametrize(
        "source, good",
        [
            ("def reward_func(response, label): return float(label in response)", True),
            ("def reward_func(response, label, prompt): return 1.0", True),
            ("def reward_func(queries, prompts, labels): return [1.0]", True),
            ("def reward_func(reply, label): return 1.0", False),
            ("def reward_func(response): return 'right'", False),
            ("def reward_func(response): return None", False),
            ("def reward_func(response): return {'score': 1}", False),
        ],
    )
    def test_what_kimi_rewards_calls_may_be_of_a_single_response(self, source, good):
        Path("reward.py").write_text(source)
        args = nest(RL | {"kimi.rewards.kind": None, "kimi.rewards.kind_key": None, "kimi.rewards.sources": None})
        assert (list(rewards.check_reward(args)) == []) == good
        alone = list(rewards.check_reward(nest(RL)))
        assert alone  # OpenRLHF calls it with three lists, and takes a dictionary only

    @pytest.mark.parametrize(
        "source, reason",
        [
            ("import json as reward_func", "reward_func is a module and no function"),
            ("reward_func = no_such_name", "NameError: name 'no_such_name' is not defined"),
            ("def reward_func(response): return 1.0\ndel reward_func", "it defines no reward_func"),
            ("def reward_func(response): return 1.0\nraise SystemExit('no key')", "SystemExit: no key"),
            ("open('no/such/file')\ndef reward_func(response): return 1.0", "FileNotFoundError"),
            ("import os\ndef reward_func(response): return 1.0\nos._exit(3)", "its process died"),
        ],
    )
    def test_what_kimi_rewards_calls_is_imported(self, source, reason):
        """In a process of its own; alone, kimi-preflight only reads the file."""
        Path("reward.py").write_text(source)
        kinds = {"kimi.rewards.kind": None, "kimi.rewards.kind_key": None, "kimi.rewards.sources": None}
        (line,) = rewards.check_reward(nest(RL | kinds))
        assert line.startswith("reward.remote_url: ") and reason in line

    def test_an_import_that_takes_long_is_let_be(self, monkeypatch):
        monkeypatch.setattr(rewards_settings, "IMPORT_SECONDS", 0.5)
        Path("reward.py").write_text("import time\ntime.sleep(60)\ndef reward_func(response): return 1.0")
        assert rewards_settings.import_problem("reward.py") is None

    def test_agent(self):
        given = {"train__agent_func_path": "agent.py", "reward__remote_url": ["agent"]}
        Path("agent.py").write_text("class AgentExecutor(Base): ...")
        assert found(**given) == []
        for wrong in ("class AgentExecutor: ...", "def AgentExecutor(): ...", "AgentExecutor = None"):
            Path("agent.py").write_text(wrong)
            assert "agent.py: AgentExecutor is no class of an agent" in only(**given)
        assert "defines no AgentExecutor" in only(train__agent_func_path="reward.py")
        assert "not a .py file" in only(train__agent_func_path="agent")

    def test_server(self, listening, silent):
        assert found(reward__remote_url=f"http://127.0.0.1:{listening}/reward") == []
        line = only(reward__remote_url=f"http://127.0.0.1:{listening}/a,http://localhost:{silent}/b")
        assert f"nothing answers at localhost:{silent}" in line

    @pytest.mark.parametrize("url", ["localhost:5000/reward", "http://host:99999/", "reward", "http:///path"])
    def test_no_web_address(self, url):
        assert f"reward.remote_url: {url} is not a web address" in only(reward__remote_url=url)


class TestBatches:
    def test_deepspeed_batch(self, monkeypatch):
        line = only(train__batch_size=32, train__micro_batch_size=5)
        assert line.startswith("train.batch_size: 32 is not a multiple of train.micro_batch_size 5 × 1")
        assert "set it to 30, for example" in line
        assert "set it to 32," in only(train__batch_size=36)
        monkeypatch.setenv("WORLD_SIZE", "3")
        assert "8 × 3 data-parallel trainer ranks" in only("sft")

    def test_rollouts_need_not_be_a_multiple_of_anything(self):
        assert found(train__batch_size=48) == [] and found(train__batch_size=256) == []
        write_rows("odd.jsonl", ROWS[:49])
        make_devices(2)
        ranks = {"actor__num_gpus_per_node": 2, "vllm__num_engines": 2, "rollout__micro_batch_size": 4}
        assert found(data__prompt_dataset="odd.jsonl", **ranks) == []

    def test_reference_ranks_count_too(self):
        make_devices(8)
        apart = {"train__colocate_all": False, "algo__kl__init_coef": 0.1}
        assert found(ref__num_gpus_per_node=4, **apart) == []
        assert "3 data-parallel ref ranks" in only(ref__num_gpus_per_node=3, **apart)

    def test_model_parallel_ranks(self):
        make_devices(8)
        line = only(actor__num_gpus_per_node=3, vllm__num_engines=3, ds__tensor_parallel_size=2)
        assert "2 × ds.ring_attn_size 1 does not divide the 3 actor ranks" in line
        assert found(actor__num_gpus_per_node=4, vllm__num_engines=4, ds__tensor_parallel_size=2) == []


class TestSettingsWithoutEffect:
    def test_what_the_asynchronous_trainer_does_not_do(self):
        make_devices(2)
        apart = {"train__async_enable": True, "train__colocate_all": False}
        evaluated = {"eval__dataset": "prompts.jsonl", "eval__steps": 1}
        assert found(**apart) == []
        assert only(**apart, vllm__max_restarts=1).startswith("vllm.max_restarts: 1: no engine can be restarted")
        for key in ("train__full_determinism_enable", "eval__before_training"):
            assert only(**apart, **evaluated, **{key: True}).startswith(f"{key.replace('__', '.')}: ")
            assert found(**evaluated, **{key: True}) == []
        more = {"rollout__vllm_generate_batch_size": 32}
        assert found(**apart, **more) == []
        assert "would lose the samples" in only(**apart, **more, ckpt__save_steps=1)

    def test_what_deepspeed_takes_and_does_not_do(self):
        assert only(actor__optim="muon", ds__zero_stage=0).startswith("actor.optim: muon with ds.zero_stage 0")
        assert found(actor__optim="muon") == []
        assert only(actor__optim="muon", actor__muon__ns_steps=3).startswith(
            "actor.muon: ns_steps 3 and nesterov true"
        )

    def test_sleep_needs_zero(self):
        assert only(ds__enable_sleep=True, ds__zero_stage=0).startswith("ds.enable_sleep: the optimizer of")
        assert found(ds__enable_sleep=True) == []

    def test_zero_pp_needs_ranks_to_split(self):
        make_devices(8)
        given = {"actor__num_gpus_per_node": 4, "vllm__num_engines": 4, "ds__zero_stage": 3}
        assert found(**given, ds__zpg=2) == []
        for wrong in (3, 8):
            assert only(**given, ds__zpg=wrong).startswith(f"ds.zpg: {wrong} does not divide the 4 actor ranks")

    def test_fewer_prompts_generated_than_an_iteration_has(self):
        assert only(rollout__vllm_generate_batch_size=8).startswith("rollout.vllm_generate_batch_size: 8 is less")
        assert found(rollout__vllm_generate_batch_size=16) == []
        assert only(ds__grad_accum_dtype="fp32", ds__zero_stage=0).startswith("ds.grad_accum_dtype: fp32")
        assert found(ds__grad_accum_dtype="fp32", ds__zero_stage=0, ds__param_dtype="fp32") == []
        assert only(ds__grad_accum_dtype="fp16", ds__zero_stage=0, ds__param_dtype="fp32").endswith("leave it out")

    def test_what_cannot_be_had_with_adapters(self):
        assert found(ds__lora__rank=4) == []
        assert only(ds__load_in_4bit=True).startswith("ds.load_in_4bit: adapters of 4-bit weights cannot be merged")
        assert only(ds__lora__rank=4, train__enable_ema=True).startswith("train.enable_ema: ")
        assert found(train__enable_ema=True) == []
        parallel = {"actor__num_gpus_per_node": 2, "vllm__num_engines": 2, "ds__tensor_parallel_size": 2}
        make_devices(2)
        assert only(**parallel, ds__lora__rank=4).startswith("ds.tensor_parallel_size: 2: was never tried")
        assert found(**parallel) == []


class TestMachine:
    def test_gpus(self, monkeypatch):
        make_devices(8)
        apart = {"train__colocate_all": False, "vllm__sync_backend": "nccl"}
        assert found(vllm__num_engines=7, **apart) == []
        line = only(vllm__num_engines=8, **apart)
        assert "8 engines of 1 and 1 actor ranks need 9 GPUs, this machine offers 8" in line
        assert "need 9 GPUs" in only(vllm__num_engines=4, vllm__tensor_parallel_size=2, **apart)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
        assert "offers 3" in only(vllm__num_engines=7, **apart)

    @pytest.mark.parametrize("visible, count", [("0,1", 2), ("", 0), ("-1", 0), ("1,-1,2", 1), ("0,1,2,3,4", 4)])
    def test_visible_devices(self, monkeypatch, visible, count):
        make_devices(4)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert machine.cuda_devices() == count

    def test_other_accelerators_are_not_judged(self):
        make_devices(0)
        Path("dev/kfd").touch()
        assert found(vllm__sync_backend="nccl", vllm__num_engines=1) == []

    @pytest.mark.parametrize(
        "changed, gpus",
        [
            ({"train__colocate_all": True}, 2),
            ({"train__colocate_all": True, "train__async_enable": True}, 5),
            ({}, 5 + 8),
            ({"train__colocate_actor_ref": True}, 5),
            ({"algo__advantage__estimator": "gae"}, 5 + 8 + 8),
            ({"algo__advantage__estimator": "gae", "reward__remote_url": None}, 5 + 8 + 8 + 8),
            (
                {
                    "algo__advantage__estimator": "gae",
                    "reward__remote_url": None,
                    "train__colocate_critic_reward": True,
                    "train__colocate_all": True,
                },
                2 + 8,
            ),
        ],
    )
    def test_gpus_of_colocated_groups(self, changed, gpus):
        changed = {key.replace("__", "."): value for key, value in changed.items()}
        base = {"train.colocate_all": False, "algo.kl.init_coef": 0.1, "actor.num_gpus_per_node": 2}
        assert machine.gpus_needed(nest(RL | base | {"vllm.num_engines": 3} | changed)) == gpus

    def test_engines_beyond_the_cores(self):
        cores = len(os.sched_getaffinity(0))
        line = only(vllm__num_engines=cores + 1, train__colocate_all=False)
        assert line.startswith(f"vllm.num_engines: {cores + 1} engines or ranks")
        assert f"ask for at most {cores}" in line

    @pytest.mark.parametrize("option", ["train.async_enable", "kimi.rollout.overlap"])
    def test_engines_and_ranks_that_compute_at_the_same_time(self, monkeypatch, option):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(2))
        two, both = {"vllm__num_engines": 2, "actor__num_gpus_per_node": 2}, {option.replace(".", "__"): True}
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        assert found(**two) == [] and found(**both) == []
        line = only(**two, **both)
        assert line.startswith(f"{option}: 4 engines or ranks would compute at the same time on 2 CPU cores")
        assert line.endswith("ask for at most 2")
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        assert only(**both).endswith("are more than the 2 CPU cores; set it to 1")

    def test_an_engine_of_several_processes_on_the_cpu(self, monkeypatch):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(2))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        line = only(vllm__tensor_parallel_size=2, actor__num_gpus_per_node=2)
        assert line.startswith("vllm.tensor_parallel_size: 2") and line.endswith("and vllm.num_engines to 2")
        make_devices(2)
        assert found(vllm__tensor_parallel_size=2, actor__num_gpus_per_node=2) == []

    @pytest.mark.parametrize("engines, threads, fitting", [(1, 5, 4), (2, 3, 2), (3, 2, 1)])
    def test_threads_beyond_the_cores(self, engines, threads, fitting, monkeypatch):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(4))
        sizes = {"vllm__num_engines": engines, "train__colocate_all": False}
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        line = only(**sizes)
        assert line.startswith(f"OMP_NUM_THREADS: {threads} threads × {engines} processes (vllm.num_engines)")
        assert line.endswith(f"set it to {fitting}")
        monkeypatch.setenv("OMP_NUM_THREADS", str(fitting))
        assert found(**sizes) == []

    def test_threads_that_a_container_has_no_cores_for(self, monkeypatch):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: 64)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(2))
        assert only().startswith("OMP_NUM_THREADS: 32 threads × 1 processes (vllm.num_engines)")

    @pytest.mark.parametrize("text", ["0", "two", "1.5", "-1"])
    @pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
    def test_threads_that_are_no_number(self, name, text, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        monkeypatch.setenv(name, text)
        assert f"{name}: {text} is not a number" in only()

    def test_threads_of_matrix_products(self, monkeypatch):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(4))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        monkeypatch.setenv("MKL_NUM_THREADS", "8")
        assert only().startswith("MKL_NUM_THREADS: 8 threads × 1 processes (vllm.num_engines) are more than the 4")

    def test_memory(self, monkeypatch):
        gib = psutil.virtual_memory().total // machine.GIB
        monkeypatch.setenv(machine.KV_SPACE, str(gib + 1))
        assert "GiB of memory" in only()
        monkeypatch.setenv(machine.KV_SPACE, "1")
        assert found() == []

    def test_memory_of_the_model(self, place):
        with open("model/model.safetensors", "wb") as weights:
            weights.truncate(2 * 10**9 * 2)  # 2e9 parameters, a sparse file
        args = nest(RL)
        processes = 4 * machine.PROCESS_GIB
        assert machine.memory_needed(args) == pytest.approx(1 + 2e9 * (2 + 16) / machine.GIB + processes)
        args.ds.param_dtype = "fp32"
        assert machine.memory_needed(args) == pytest.approx(1 + 2e9 * (4 + 16) / machine.GIB + processes)

    @pytest.mark.parametrize("space", ["0.5", "0", "-1", "one"])
    def test_kv_cache_space_is_whole(self, monkeypatch, space):
        monkeypatch.setenv(machine.KV_SPACE, space)
        assert only() == f"{machine.KV_SPACE}: {space} is not a whole number of GiB; set it to 1 or more"

    def test_memory_share_counts_when_vllm_chooses_the_cache(self, monkeypatch):
        monkeypatch.setenv(machine.KV_SPACE, "")
        line = only(vllm__gpu_memory_utilization=1.0)
        assert line.startswith("vllm.gpu_memory_utilization: 1.0 of this machine's memory")
        share = float(line.rsplit("set it to ")[1].split()[0])
        assert not [line for line in found(vllm__gpu_memory_utilization=share) if "utilization" in line]

    def test_limit_of_the_container(self, place, monkeypatch):
        (place / "max").write_text(f"{machine.GIB}\n")
        (place / "current").write_text(f"{machine.GIB // 4}\n")
        monkeypatch.setattr(machine, "CGROUP_MEMORY", ((str(place / "max"), str(place / "current")),))
        assert machine.memory() == (machine.GIB, machine.GIB * 3 // 4)
        assert "0.8 GiB are available" in only()
        (place / "max").write_text("max\n")
        assert machine.memory()[0] == psutil.virtual_memory().total

    def test_sync_backend(self):
        assert only(vllm__sync_backend="nccl").startswith("vllm.sync_backend: nccl needs CUDA devices")
        assert only(vllm__sync_with_ray=True).startswith("vllm.sync_with_ray")

    @pytest.mark.parametrize("command", DEFAULTS)
    def test_attention_kernel(self, place, monkeypatch, command):
        monkeypatch.setattr(sys, "path", [str(place / "lib"), *sys.path])
        line = only(command, ds__attn_implementation="flash_attention_2")
        assert line.startswith("ds.attn_implementation: flash_attention_2 needs CUDA") and line.endswith("to sdpa")
        assert found(command, ds__packing_samples=True) == []
        ring = SimpleNamespace(ds=SimpleNamespace(attn_implementation="flash_attention_2", ring_attn_size=2))
        [line] = machine.check_attention(ring)
        assert line.startswith("ds.ring_attn_size: 2 needs flash-attn and ring-flash-attn, not installed")
        for name in ("flash_attn", "ring_flash_attn"):
            assert name.replace("_", "-") in " ".join(machine.check_attention(ring))
            (place / "lib" / name).mkdir(parents=True)
            (place / "lib" / name / "__init__.py").touch()
            importlib.invalidate_caches()
        assert not any("flash-attn" in line for line in machine.check_attention(ring))

    def test_placement_of_colocated_models(self):
        make_devices(8)
        assert "must equal the 1 actor ranks" in only(vllm__num_engines=2)
        assert found(vllm__num_engines=2, train__async_enable=True) == []
        line = only(algo__kl__init_coef=0.1, train__batch_size=64)
        assert line.startswith("ref.num_gpus_per_node: 8 must equal actor.num_gpus_per_node 1 with train.colocate_all")
        line = only(reward__remote_url=None, reward__model_name_or_path="model", reward__num_gpus_per_node=2)
        assert line.startswith("reward.num_gpus_per_node: 2 reward ranks find no room")
        critic = {"algo__advantage__estimator": "gae", "train__colocate_critic_reward": True}
        assert "critic.num_gpus_per_node 2" in only(critic__num_gpus_per_node=2, **critic)

    def test_machines_of_a_cluster_are_not_judged(self, listening, monkeypatch):
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{listening}")
        distant = {"vllm__sync_backend": "nccl", "ds__attn_implementation": "flash_attention_2"}
        assert found(actor__num_gpus_per_node=2, vllm__num_engines=2, **distant) == []

    def test_packages_that_flags_ask_for(self, monkeypatch):
        monkeypatch.setattr(machine, "find_spec", lambda name: None)
        line = only(logger__wandb__key="key", ds__attn_implementation="sdpa")
        assert line == "logger.wandb.key: needs wandb, which is not installed; pip install wandb, or leave it out"
        assert only(ds__use_liger_kernel=True).startswith("ds.use_liger_kernel: needs liger-kernel")
        assert only("sft", logger__tensorboard_dir="logs").startswith("logger.tensorboard_dir: needs tensorboard")

    def test_half_precision_on_the_cpu(self, monkeypatch):
        for flags, refused in (("flags: avx2", True), ("flags: avx2 avx512_fp16", False), ("Features: fphp", False)):
            Path("cpuinfo").write_text(flags)
            monkeypatch.setattr(machine, "CPU_INFO", Path("cpuinfo"))
            lines = found(ds__param_dtype="fp16")
            assert [line.split(":")[0] for line in lines] == ["ds.param_dtype"] * refused

    def test_loader_processes(self, monkeypatch):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
        assert found(data__dataloader_num_workers=4) == []
        assert only(data__dataloader_num_workers=5).startswith("data.dataloader_num_workers: 5 on 4 CPU cores")

    def test_what_engines_on_the_cpu_do_not_look_at(self, monkeypatch):
        def said(**changed):
            changed = {key.replace("__", "."): value for key, value in changed.items()}
            return [line.partition(":")[0] for line in machine.cpu_notes(nest(RL | changed))]

        monkeypatch.delenv(machine.BINDING, raising=False)
        assert said() == []
        assert said(vllm__gpu_memory_utilization=0.5) == ["vllm.gpu_memory_utilization"]
        monkeypatch.setenv(machine.BINDING, "0-31")
        assert said() == [machine.BINDING]
        monkeypatch.setenv(machine.KV_SPACE, "")  # then vLLM takes that share of the memory
        assert said(vllm__gpu_memory_utilization=0.5) == [machine.BINDING]
        make_devices(1)
        assert said() == []

    @pytest.mark.parametrize("key", ["vllm__enable_sleep", "ds__deepcompile", "vllm__sync_with_ray"])
    def test_switches_of_cuda(self, key):
        assert only(**{key: True}).startswith(f"{key.replace('__', '.')}: needs CUDA devices")


class TestCluster:
    def leave_session(self, place, address):
        (place / "ray").mkdir(exist_ok=True)
        (place / "ray/ray_current_cluster").write_text(address)

    def test_stale_session(self, place, listening, silent):
        self.leave_session(place, f"127.0.0.1:{silent}")
        line = only()
        assert f"no Ray cluster answers at 127.0.0.1:{silent}" in line and "ray stop" in line
        self.leave_session(place, f"127.0.0.1:{listening}\n")
        assert found() == []

    def test_malformed_session(self, place):
        self.leave_session(place, "")
        assert "'' is not host:port" in only()

    def test_address(self, monkeypatch, listening, silent):
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{silent}")
        assert only().startswith(f"RAY_ADDRESS: no Ray cluster answers at 127.0.0.1:{silent}")
        monkeypatch.setenv("RAY_ADDRESS", f"ray://localhost:{silent}")
        assert "unset RAY_ADDRESS" in only()
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{listening}")
        assert found() == []

    @pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"abc", None])
    def test_another_program_has_the_port(self, monkeypatch, answer):
        with serve(answer) as port:
            monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
            assert only().startswith(f"RAY_ADDRESS: another program than Ray has the port at 127.0.0.1:{port}; find")

    def test_local_ignores_the_session(self, place, monkeypatch, silent):
        self.leave_session(place, f"127.0.0.1:{silent}")
        monkeypatch.setenv("RAY_ADDRESS", "local")
        assert found() == []

    def test_auto(self, place, monkeypatch, listening):
        monkeypatch.setattr(psutil, "process_iter", lambda attributes: [])
        monkeypatch.setenv("RAY_ADDRESS", "auto")
        assert only().startswith("RAY_ADDRESS: auto, but no Ray cluster runs here")
        self.leave_session(place, f"127.0.0.1:{listening}")
        assert found() == []

    def test_a_dead_end_does_not_hold_up_the_start(self):
        with socket.socket() as full:  # a full backlog answers nothing
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            error = cluster.connection_error(*full.getsockname())
            # By the time-out of this connection: the kernel's, after two minutes, has a number.
            assert isinstance(error, TimeoutError) and error.errno is None
            for filler in fillers:
                filler.close()


class TestOutputs:
    @pytest.mark.parametrize("command", DEFAULTS)
    def test_file_in_the_way(self, command):
        Path("file").touch()
        assert "file is a file" in only(command, ckpt__output_dir="file/out")
        assert found(command, ckpt__path="file/steps") == []  # never written
        assert "ckpt.path" in only(command, ckpt__path="file/steps", ckpt__save_steps=10)
        assert "logger.tensorboard_dir" in only(command, logger__tensorboard_dir="file/logs")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
    def test_read_only(self, place):
        (place / "fixed").mkdir(mode=0o555)
        assert "is read-only" in only(ckpt__output_dir="fixed/out")

    def test_disk(self, monkeypatch):
        monkeypatch.setattr(outputs, "LEAST_FREE", 10**18)
        assert only().startswith("ckpt.output_dir: ckpt has ")

    @pytest.mark.parametrize("command, directory", [("train", "ckpt/steps/_actor"), ("sft", "ckpt/steps")])
    def test_resume(self, place, command, directory):
        assert f"no checkpoint, {directory} does not exist" in only(command, ckpt__load_enable="required")
        assert found(command, ckpt__load_enable=True) == found(command, ckpt__load_enable="auto") == []
        (place / directory / "global_step3.partial").mkdir(parents=True)  # killed in its first save
        assert f"no whole checkpoint in {directory}" in only(command, ckpt__load_enable="required")
        assert found(command, ckpt__load_enable="auto") == []
        (place / directory / "latest").write_text("global_step3")
        assert "global_step3 cannot be used: it is not there" in only(command, ckpt__load_enable=True)
        (place / directory / "global_step3").mkdir()
        assert found(command, ckpt__load_enable=True) == []
        assert "latest_universal" in only(command, ckpt__load_enable="required", ds__use_universal_ckpt=True)

    @pytest.mark.parametrize("command, directory", [("train", "ckpt/steps/_actor"), ("sft", "ckpt/steps")])
    def test_resume_with_other_ranks(self, place, command, directory):
        """With ZeRO: without it rank 0 saves all."""
        saved = place / directory / "global_step3"
        saved.mkdir(parents=True)
        (place / directory / "latest").write_text("global_step3")
        for rank in range(2):
            (saved / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").touch()
        line = only(command, ckpt__load_enable=True, ds__zero_stage=2)
        assert line.startswith(f"ckpt.load_enable: {directory}/global_step3 is of 2 ranks, this run has 1")
        assert line.endswith("give it 2 ranks")
        assert found(command, ckpt__load_enable=True, ds__zero_stage=0) == []
        (saved / "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt").unlink()
        assert found(command, ckpt__load_enable=True, ds__zero_stage=2) == []


@pytest.mark.stack
class TestAgainstTheStack:
    """What is assumed about Ray, vLLM, datasets and OpenRLHF's flags, asked of them."""

    @pytest.mark.parametrize(
        "rope",
        [
            {"rope_type": "default"},
            {"rope_type": "linear", "factor": 4.0},
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192},
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        ],
    )
    def test_vllm_takes_the_context_that_is_not_refused(self, rope):
        arguments = pytest.importorskip("vllm.config.model")
        transformers = pytest.importorskip("transformers")
        config = transformers.Qwen3Config(max_position_embeddings=32768, rope_parameters={"rope_theta": 1e4} | rope)
        limits = SimpleNamespace(derived_max_model_len_and_key=(32768, "max_position_embeddings"))
        for length, refused in ((models.context(config.to_dict()), False), (10**7, True)):
            call = (config, limits, None, length, False, None)
            if refused:
                with pytest.raises(ValueError, match="greater than the derived"):
                    arguments._get_and_verify_max_len(*call)
            else:
                assert arguments._get_and_verify_max_len(*call) == length

    @pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR", None])
    def test_rays_session_file(self, place, monkeypatch, name):
        utils = pytest.importorskip("ray._common.utils")
        for variable in ("RAY_TMPDIR", "TMPDIR"):
            monkeypatch.delenv(variable, raising=False)
        if name:
            monkeypatch.setenv(name, str(place / name))
        assert utils.get_ray_address_file(None) == str(cluster.session_file())

    @pytest.mark.parametrize("variable", [None, "", "local", "10.1.2.3:6379"])
    @pytest.mark.parametrize("session", [None, "10.1.2.4:6379\n"])
    def test_rays_address(self, place, monkeypatch, variable, session):
        services = pytest.importorskip("ray._private.services")
        if variable is not None:
            monkeypatch.setenv("RAY_ADDRESS", variable)
        if session is not None:
            (place / "ray").mkdir()
            (place / "ray/ray_current_cluster").write_text(session)
        assert services.canonicalize_bootstrap_address(None) == cluster.ray_address()

    @pytest.mark.parametrize(
        "command, module", [("train", "train_ppo_ray"), ("sft", "train_sft"), ("dpo", "train_dpo"), ("rm", "train_rm")]
    )
    def test_flags(self, command, module):
        module = pytest.importorskip(f"openrlhf.cli.{module}")
        from openrlhf.utils.config import hierarchize

        flags = []
        parser = module.get_parser()
        known = {action.dest: action.default for action in parser._actions}
        for key, value in DEFAULTS[command].items():
            if key.startswith("kimi.") or value == known[key]:
                continue
            if value is True:
                flags.append(f"--{key}")
            elif value is not None and value is not False:
                flags += [f"--{key}", str(value)]
        args = hierarchize(parser.parse_args(flags))
        assert problems(args, command) == []
        assert problems(module.check_args(args), command) == []

    @pytest.mark.parametrize("name, body", FILES.items())
    def test_datasets_takes_what_the_readers_take(self, place, monkeypatch, name, body):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        datasets = pytest.importorskip("datasets")
        Path(name).write_bytes(body)
        try:
            rows = list(containers.file_rows(name))
        except Unreadable:
            rows = []
        good = bool(rows) and all(isinstance(row.value, dict) and row.problem is None for row in rows)
        kind = Path(name).suffix.replace("jsonl", "json")[1:]
        try:
            dataset = datasets.load_dataset(kind, data_files=name, cache_dir=str(place / "cache"))
            loaded = list(dataset["train"]["input"])
        except (ValueError, StopIteration, datasets.exceptions.DatasetGenerationError):
            loaded = None
        assert good == (loaded is not None) or name == "short_row.csv"  # whose missing fields datasets takes for null
        if good:
            assert [row.value["input"] for row in rows] == loaded
