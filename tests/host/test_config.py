"""defaults < YAML < flags, and every mistake with file, line and what is accepted."""

import importlib
import json
import re

import pytest
from openrlhf.cli import config


@pytest.fixture
def resolve(trainer, tmp_path):
    """resolve(yaml, *flags): (values by dotted key, sources, problems) with the made-up trainer's parser."""

    def resolve(text, *argv):
        (tmp_path / "r.yaml").write_text(text)
        settings, problems = config.read_yaml("r.yaml")
        namespace, sources, found = config.resolve(trainer.get_parser(), settings, list(argv))
        return vars(namespace), sources, problems + found

    return resolve


def test_flags_win_over_the_file_and_the_file_over_defaults(resolve):
    values, sources, problems = resolve(
        "actor: {adam: {lr: 1e-4}}\ntrain.batch_size: 16\n", "--actor.adam.lr", "2e-4", "--max_norm=3"
    )
    assert problems == []
    assert (values["actor.adam.lr"], values["train.batch_size"], values["max_norm"]) == (2e-4, 16, 3.0)
    assert values["data.max_mem"] == 1.0
    assert sources == {
        "actor.adam.lr": "command line",
        "train.batch_size": "r.yaml:2",
        "max_norm": "command line",
    }


@pytest.mark.parametrize(
    "text",
    [
        "actor:\n  adam:\n    lr: 1e-6\n    betas: [0.8, 0.9]\n",
        "actor.adam.lr: 1e-6\nactor.adam.betas: [0.8, 0.9]\n",
        "actor:\n  adam.lr: 1.0e-6\nactor.adam: {betas: [0.8, 0.9]}\n",
        "actor: &a\n  adam: {lr: '1e-6', betas: [8e-1, 9e-1]}\n",
    ],
)
def test_nested_dotted_and_mixed_keys_say_the_same(resolve, text):
    values, _, problems = resolve(text)
    assert problems == []
    assert (values["actor.adam.lr"], values["actor.adam.betas"]) == (1e-6, [0.8, 0.9])


@pytest.mark.parametrize(
    "line, key, value",
    [
        ("train.colocate: true", "train.colocate", True),
        ("train.colocate: false", "train.colocate", False),
        ("train.cache: off", "train.cache", False),
        ("train.cache: yes", "train.cache", True),
        ("actor.muon.nesterov: false", "actor.muon.nesterov", False),
        ("actor.muon.no_nesterov: true", "actor.muon.nesterov", False),
        ("actor.muon.no_nesterov: false", "actor.muon.nesterov", True),
        ("actor.stuck: true", "actor.stuck", True),
        ("actor.stuck: false", "actor.stuck", False),
        ("data.tags: []", "data.tags", []),
        ("data.tags: [a, 2, yes]", "data.tags", ["a", "2", "yes"]),
        ("actor.adam.betas: [-1e-5, -0.5]", "actor.adam.betas", [-1e-5, -0.5]),
        ("data.max_mem: -1e-5", "data.max_mem", -1e-5),
        ("data.max_mem: .inf", "data.max_mem", float("inf")),
        ("train.batch_size: 1_000", "train.batch_size", 1000),
        ("actor.model: --odd name", "actor.model", "--odd name"),
        ("actor.model: ''", "actor.model", ""),
        ("actor.model: 0123", "actor.model", "0123"),
        ("actor.model: null", "actor.model", None),
        ("train.batch_size: ~", "train.batch_size", 8),
        ("actor:", "actor.adam.lr", 1e-6),
    ],
)
def test_values(resolve, line, key, value):
    values, _, problems = resolve(line)
    assert problems == []
    assert values[key] == value and type(values[key]) is type(value)


@pytest.mark.parametrize(
    "text, problem",
    [
        ("actor:\n  adam:\n    lrr: 1", "r.yaml:3: unknown key 'actor.adam.lrr'; did you mean 'actor.adam.lr'?"),
        ("\nkimi.tau: 1", "r.yaml:2: unknown key 'kimi.tau'; if a plugin adds it, name the plugin in --plugins"),
        ("kimi:", "r.yaml:1: unknown key 'kimi'; if a plugin adds it, name the plugin in --plugins"),
        ("train.quite_another_thing: 1", "r.yaml:1: unknown key 'train.quite_another_thing'"),
        (
            "train.quite.another_thing: 1",
            "r.yaml:1: unknown key 'train.quite.another_thing'; if a plugin adds it, name the plugin in --plugins",
        ),
        ("dry-run: true", "r.yaml:1: unknown key 'dry-run'; if a plugin adds it, name the plugin in --plugins"),
        ("train.no-cache: 1", "r.yaml:1: unknown key 'train.no-cache'; did you mean 'train.cache'?"),
        ("no-train.cache: true", "r.yaml:1: unknown key 'no-train.cache'; did you mean 'train.cache'?"),
        ("train.batch_size: many", "r.yaml:1: train.batch_size: invalid int value: 'many'"),
        ("train.batch_size: 1.5", "r.yaml:1: train.batch_size: invalid int value: '1.5'"),
        ("train.batch_size: true", "r.yaml:1: train.batch_size: invalid int value: 'true'"),
        ("actor.optim: sgd", "r.yaml:1: actor.optim: invalid choice: 'sgd' (choose from 'adam', 'muon')"),
        ("train.colocate: 1", "r.yaml:1: train.colocate: expected true or false (without quotes), got 1"),
        ("train.colocate: 'true'", "r.yaml:1: train.colocate: expected true or false (without quotes), got 'true'"),
        ("train.cache: [true]", "r.yaml:1: train.cache: expected true or false (without quotes), got [true]"),
        ("actor.adam.betas: 0.9", "r.yaml:1: actor.adam.betas: expected 2 arguments"),
        ("actor.adam.betas: [0.9, 1, 2]", "r.yaml:1: actor.adam.betas: unexpected '2': it takes 2 value(s)"),
        ("actor.adam.lr: [1, 2]", "r.yaml:1: actor.adam.lr: unexpected '2': it takes 1 value(s)"),
        ("actor.adam.lr: []", "r.yaml:1: actor.adam.lr: expected one argument"),
        ("data.tags: [[a], b]", "r.yaml:1: data.tags: a list may hold only single values"),
        ("[a]: 1", "r.yaml:1: a key must be a plain word"),
        ("\n\n- a\n- b", "r.yaml:3: expected keys with values (key: value)"),
        (
            "actor.adam.lr: 1\nactor:\n  adam: {lr: 2}",
            "r.yaml:3: key 'actor.adam.lr' is given twice, first at r.yaml:1",
        ),
    ],
)
def test_a_mistake_in_the_file(resolve, text, problem):
    assert resolve(text)[2] == [problem]


@pytest.mark.parametrize(
    "text, line",
    [("a: 1\nb: [1, 2\nc: 3", 3), ("a: 1\n\tb: 2", 2), ("a: b: c", 1), ("a: 1\n---\nb: 2", 2), ("a: *b", 1)],
)
def test_malformed_yaml_has_its_line(resolve, text, line):
    (problem,) = resolve(text)[2]
    assert problem.startswith(f"r.yaml:{line}: not valid YAML: ")


@pytest.mark.parametrize("content", [b"a: \xff\xfe", b"a: \x00"])
def test_bytes_that_are_no_text(tmp_path, content):
    (tmp_path / "r.yaml").write_bytes(content)
    settings, (problem,) = config.read_yaml("r.yaml")
    assert settings == {} and problem.startswith("r.yaml: not valid YAML: ")


def test_a_missing_file_and_a_directory(tmp_path):
    assert config.read_yaml("none.yaml") == ({}, ["--config none.yaml: No such file or directory"])
    assert config.read_yaml(str(tmp_path)) == ({}, [f"--config {tmp_path}: Is a directory"])


def test_an_empty_file_changes_nothing(resolve):
    assert resolve("# nothing\n")[1:] == ({}, [])


@pytest.mark.parametrize(
    "argv, problem",
    [
        (["--actor.adam.lrr", "1"], "unknown flag --actor.adam.lrr; did you mean '--actor.adam.lr'?"),
        (["--actor.adam.l", "1"], "unknown flag --actor.adam.l; did you mean '--actor.adam.lr'?"),
        (["--kimi.tau=1"], "unknown flag --kimi.tau; if a plugin adds it, name the plugin in --plugins"),
        (["--train.batch_size", "x"], "--train.batch_size: invalid int value: 'x'"),
        (["--actor.optim=sgd"], "--actor.optim: invalid choice: 'sgd' (choose from 'adam', 'muon')"),
        (["--train.colocate", "true"], "--train.colocate: unexpected 'true': it takes no value"),
        (["--actor.adam.betas", "1"], "--actor.adam.betas: expected 2 arguments"),
        (["stray"], "unexpected argument 'stray'; flags start with --"),
        (["--actor.model"], "--actor.model: expected one argument"),
    ],
)
def test_a_mistake_on_the_command_line(resolve, argv, problem):
    assert resolve("", *argv)[2] == [f"command line: {problem}"]


def test_all_problems_are_found_at_once(resolve):
    problems = resolve("a: 1\nmax_norm: x\nactor.optim: 3\n", "--b", "1", "--train.batch_size", "y", "--c=2")[2]
    assert [re.match(r"r.yaml:\d|command line", problem).group() for problem in problems] == [
        "r.yaml:1",
        "r.yaml:2",
        "r.yaml:3",
        "command line",
        "command line",
        "command line",
    ]


def test_values_that_look_like_flags(resolve):
    values, _, problems = resolve("", "--actor.model", "--- {}", "--data.tags", "a", "-1", "--max_norm", "-2")
    assert problems == []
    assert (values["actor.model"], values["data.tags"], values["max_norm"]) == ("--- {}", ["a", "-1"], -2.0)


def test_a_required_flag_may_come_from_the_file(trainer, tmp_path):
    def problems(text):
        (tmp_path / "r.yaml").write_text(text)
        parser = trainer.get_parser()
        parser.add_argument("--kimi.tau", type=float, required=True)
        return config.resolve(parser, config.read_yaml("r.yaml")[0], [])[2]

    assert problems("kimi.tau: 1") == []
    assert problems("") == ["--kimi.tau is required"]


@pytest.mark.parametrize(
    "command", ["ppo_ray", *(pytest.param(name, marks=pytest.mark.stack) for name in ("sft", "dpo", "rm"))]
)
def test_every_default_of_the_real_trainers_survives_the_file(command, tmp_path):
    """Write each trainer's defaults as YAML and read them back."""
    trainer = importlib.import_module(f"openrlhf.cli.train_{command}")
    defaults = vars(trainer.get_parser().parse_args([]))
    lines = [f"{key}: {json.dumps(value).replace('Infinity', '.inf')}" for key, value in defaults.items()]
    (tmp_path / "r.yaml").write_text("\n".join(lines).replace('"all-linear"', "[all-linear]"))
    namespace, sources, problems = config.resolve(trainer.get_parser(), config.read_yaml("r.yaml")[0], [])
    assert problems == []
    for key, value in defaults.items():
        expected = ["all-linear"] if value == "all-linear" else list(value) if isinstance(value, tuple) else value
        assert vars(namespace)[key] == expected, key
        assert (key in sources) == (value is not None)


@pytest.mark.parametrize("text", ["train.colocate: true", "train.cache: true", "actor.muon.nesterov: true"])
def test_a_flag_switches_off_what_the_file_switches_on(resolve, text):
    key = text.partition(":")[0]
    values, sources, problems = resolve(text, f"--no-{key}")
    assert (values[key], sources[key], problems) == (False, "command line", [])
