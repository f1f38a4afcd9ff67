"""The `openrlhf` command: commands, help, dry run, exit codes and the environment it sets."""

import importlib
import itertools
import os
import re
import resource
import socket
import subprocess
import sys

import pytest
from openrlhf import plugins
from openrlhf.cli import main
from openrlhf.cli.config import flatten
from openrlhf.utils.config import hierarchize

TAU = """
    class Tau:
        def openrlhf_add_arguments(self, parser, command):
            parser.add_argument("--made.tau", type=float, default=0.5, help=f"for {command}, 100 %% made up")

        def openrlhf_validate_config(self, args, command):
            return [] if args.made.tau > 0 else [f"made.tau: {args.made.tau} must be above 0"]

    class Big:
        def openrlhf_validate_config(self, args):
            return [f"train.batch_size: {args.train.batch_size} is too big"] if args.train.batch_size > 99 else []

        def openrlhf_check_machine(self, args):
            return ["no room"] if args.train.batch_size > 50 else []

    class Both:
        openrlhf_plugins = ("tau", "big")
"""
POINTS = {"tau": "Tau", "big": "Big", "tau-and-big": "Both"}


@pytest.fixture
def tau(install, trainer):
    install("made-up-tau", TAU, POINTS)


def problems(err):
    """The problems below the line that counts them."""
    head, *lines = err.rstrip("\n").split("\n")
    assert re.fullmatch(rf"openrlhf[a-z ]*: {len(lines)} problems?", head), err
    assert all(line.startswith("  ") for line in lines)
    return [line[2:] for line in lines]


def rows(out):
    """{key: (value, source)} of a dry run's report."""
    matches = [re.fullmatch(r"(\S+) +=  ?(.*?)(?:  +(\S.*))?", line) for line in out.splitlines()]
    return {match[1]: (match[2].strip(), match[3] or "") for match in matches if match}


# Starting


@pytest.mark.parametrize("command", ["train", "sft", "dpo", "rm"])
def test_a_trainer_starts_with_the_checked_arguments(openrlhf, trainer, command):
    code, _, err = openrlhf(command, "--actor.adam.lr", "3e-4")
    assert (code, err) == (0, "")
    (args,) = trainer.runs
    assert args.actor.adam.lr == 3e-4
    assert args.train.micro_batch_size == 8  # adjusted by check_args
    assert args.plugins == []


def test_plugins_add_flags_and_reach_the_run(openrlhf, tau, trainer):
    code, _, err = openrlhf("train", "--plugins", "tau-and-big", "--made.tau=0.25")
    assert (code, err) == (0, "")
    assert trainer.runs[0].made.tau == 0.25
    assert trainer.runs[0].plugins == ["tau-and-big"]
    assert os.environ["OPENRLHF_PLUGINS"] == "tau-and-big"
    assert plugins.loaded() == ["tau", "big"]


@pytest.mark.parametrize(
    "environment, text, flag, expected, source",
    [
        (None, "", None, [], ""),
        ("tau", "", None, ["tau"], "environment OPENRLHF_PLUGINS"),
        ("tau", "plugins: [big]", None, ["big"], "r.yaml:1"),
        ("tau", "plugins: tau, big", None, ["tau", "big"], "r.yaml:1"),
        ("tau", "plugins: [big]", "tau", ["tau"], "command line"),
        ("tau", "plugins: [big]", "", [], "command line"),
        ("tau", "plugins: []", None, [], "r.yaml:1"),
    ],
)
def test_who_chooses_the_plugins(openrlhf, tau, tmp_path, monkeypatch, environment, text, flag, expected, source):
    if environment is not None:
        monkeypatch.setenv("OPENRLHF_PLUGINS", environment)
    (tmp_path / "r.yaml").write_text(text)
    flags = [] if flag is None else ["--plugins", flag]
    code, out, err = openrlhf("train", "--config", "r.yaml", "--dry-run", *flags)
    assert (code, err) == (0, "")
    assert plugins.loaded() == expected
    assert os.environ["OPENRLHF_PLUGINS"] == ",".join(expected)
    assert rows(out)["plugins"][1] == source


# Dry run


def test_a_dry_run_shows_every_value_and_its_source_and_starts_nothing(openrlhf, tau, trainer, tmp_path):
    (tmp_path / "r.yaml").write_text("actor:\n  adam:\n    lr: 1e-4\nmade.tau: 0.125\ntrain.colocate: false\n")
    code, out, err = openrlhf("train", "--config", "r.yaml", "--plugins=tau", "--max_norm", "2", "--dry-run")
    assert (code, err, trainer.runs) == (0, "", [])
    given, defaults = out.split("\n\n# defaults\n")
    assert rows(given) == {
        "actor.adam.lr": ("0.0001", "r.yaml:3"),
        "config": ('"r.yaml"', "command line"),
        "made.tau": ("0.125", "r.yaml:4"),
        "max_norm": ("2.0", "command line"),
        "plugins": ('["tau"]', "command line"),
        "train.colocate": ("false", "r.yaml:5"),
        "train.micro_batch_size": ("8", "adjusted by checks"),
    }
    assert rows(defaults)["actor.adam.betas"] == ("[0.9, 0.95]", "")
    dests = vars(trainer.get_parser().parse_args([]))
    assert set(rows(out)) == set(dests) | {"config", "plugins", "made.tau"}
    assert len({line.index(" = ") for line in out.splitlines() if " = " in line}) == 1  # aligned


ODD = [
    "",
    " ",
    "null",
    "~",
    "true",
    "off",
    "1e-6",
    "007",
    "1_000",
    "2026-01-01",
    ".inf",
    "-x",
    "--- {}",
    "a: b",
    "a #b",
]
ODD += [
    "#",
    "[a, b]",
    "{x}",
    "'",
    '"',
    "\\n",
    "User: {}\nAssistant: ",
    "\t",
    "Übung 数学 ∑",
    "\x85\u2028\ufeff",
    "&a",
    "*a",
    "!x",
    "%",
]


@pytest.mark.parametrize("odd", ODD)
def test_a_dry_run_as_yaml_reads_back_as_the_same_values(openrlhf, tau, trainer, tmp_path, odd):
    flags = ["--plugins=tau", f"--actor.model={odd}", "--actor.adam.betas", " -1e-05", ".5", "--no-train.cache"]
    tags = ["--data.tags", "x", odd] if not odd.startswith("-") else [f"--data.tags={odd}"]
    flags += [
        *tags,
        "--actor.muon.no_nesterov",
        "--max_norm",
        "inf",
        "--train.batch_size",
        "1",
        "--train.batch_size=4",
    ]
    code, out, err = openrlhf("train", *flags, "--dry-run", "--yaml")
    assert (code, err, trainer.runs) == (0, "", [])
    (tmp_path / "again.yaml").write_text(out, encoding="utf-8")

    assert openrlhf("train", *flags)[0] == openrlhf("train", "--config", "again.yaml")[0] == 0
    expected, read_back = map(flatten, trainer.runs)
    assert read_back.pop("config") == "again.yaml" and expected.pop("config") is None
    assert repr(read_back) == repr(expected)  # types, too: a tuple is no list
    assert (expected["actor.model"], expected["data.tags"][-1]) == (odd, odd)
    assert openrlhf("train", "--config", "again.yaml", "--dry-run", "--yaml")[1].count("again.yaml:") == 7


def test_a_dry_run_as_yaml_overrides_the_file_and_the_environment(openrlhf, tau, trainer, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENRLHF_PLUGINS", "tau")
    (tmp_path / "r.yaml").write_text("train: {batch_size: 16, cache: false}\ndata.tags: []\n")
    flags = ["--config", "r.yaml", "--plugins=", "--train.batch_size", "32", "--train.cache", "--dry-run", "--yaml"]
    code, out, err = openrlhf("train", *flags)
    assert (code, err) == (0, "")
    given, defaults = out.split("\n\n# defaults\n")
    assert given.splitlines() == [
        "plugins: []",
        "data.tags: []  # r.yaml:2",
        "train.batch_size: 32  # command line",
        "train.cache: true  # command line",
    ]
    assert all(line.startswith("# ") for line in defaults.splitlines())


def test_yaml_without_a_dry_run_starts_nothing(openrlhf, trainer):
    code, _, err = openrlhf("train", "--yaml")
    assert (code, trainer.runs) == (2, [])
    assert problems(err) == ["--yaml says how --dry-run prints the configuration: give both"]


def test_a_dry_run_with_problems_shows_both(openrlhf, tau, trainer):
    code, out, err = openrlhf("train", "--plugins=tau", "--made.tau=-1", "--dry-run")
    assert (code, trainer.runs) == (2, [])
    assert rows(out)["made.tau"] == ("-1.0", "command line")
    assert problems(err) == ["tau: made.tau: -1.0 must be above 0"]


def test_what_this_machine_lacks_ends_a_run_but_not_a_dry_run(openrlhf, tau, trainer):
    argv = ["train", "--plugins=big", "--train.batch_size=60"]
    code, out, err = openrlhf(*argv, "--dry-run")
    assert (code, err) == (0, "")
    assert "on this machine: big: no room" in out
    code, _, err = openrlhf(*argv)
    assert (code, problems(err), trainer.runs) == (2, ["big: no room"], [])


# Problems


def test_problems_of_the_file_and_of_the_flags_come_together(openrlhf, trainer, tmp_path):
    (tmp_path / "r.yaml").write_text("actor.adam.lrr: 1\nactor.optim: sgd\nactor.optim: adam\n")
    code, out, err = openrlhf("train", "--config", "r.yaml", "--trian.colocate")
    assert (code, out, trainer.runs) == (2, "", [])
    assert problems(err) == [
        "r.yaml:3: key 'actor.optim' is given twice, first at r.yaml:2",
        "r.yaml:1: unknown key 'actor.adam.lrr'; did you mean 'actor.adam.lr'?",
        "r.yaml:2: actor.optim: invalid choice: 'sgd' (choose from 'adam', 'muon')",
        "command line: unknown flag --trian.colocate; did you mean '--train.colocate'?",
    ]


def test_problems_of_the_checks_and_of_all_plugins_come_together(openrlhf, tau, trainer, monkeypatch):
    def check_args(args):
        raise ValueError("the trainer's check")

    monkeypatch.setattr(trainer, "check_args", check_args)
    code, _, err = openrlhf("train", "--plugins=tau,big", "--made.tau=0", "--train.batch_size=100")
    assert (code, trainer.runs) == (2, [])
    assert problems(err) == [
        "the trainer's check",
        "tau: made.tau: 0.0 must be above 0",
        "big: train.batch_size: 100 is too big",
    ]


def test_a_failed_assertion_of_the_trainer_is_a_problem(openrlhf, trainer):
    code, _, err = openrlhf("sft", "--train.batch_size", "0")
    assert (code, problems(err)) == (2, ["train.batch_size must be positive"])


def test_a_missing_file_and_an_unknown_plugin_come_together(openrlhf, trainer):
    code, _, err = openrlhf("train", "--config", "none.yaml", "--plugins", "nobody")
    assert code == 2
    missing, unknown = problems(err)
    assert missing == "--config none.yaml: No such file or directory"
    assert unknown.startswith("unknown plugin 'nobody'")


@pytest.mark.parametrize(
    "body, problem",
    [
        (
            "def openrlhf_add_arguments(parser):\n    parser.add_argument('--max_norm')",
            "plugin 'bad' failed in openrlhf_add_arguments: ArgumentError: argument --max_norm: conflicting option "
            "string: --max_norm (",
        ),
        (
            "def openrlhf_validate_config(args):\n    return args.no_such_group",
            "plugin 'bad' failed in openrlhf_validate_config: AttributeError: ",
        ),
        (
            "def openrlhf_validate_config(args):\n    return 'text'",
            "plugin 'bad': openrlhf_validate_config must return a list of strings or None, not str",
        ),
        (
            "def openrlhf_validate_confg(args): ...",
            "plugin 'bad': unknown hook 'openrlhf_validate_confg'; did you mean",
        ),
    ],
)
def test_a_broken_plugin_is_a_problem_without_a_traceback(openrlhf, install, trainer, body, problem):
    install("bad", body, {"bad": ""})
    code, _, err = openrlhf("train", "--plugins", "bad")
    assert (code, trainer.runs) == (2, [])
    assert problems(err)[0].startswith(problem)
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "error, code, text",
    [
        (KeyboardInterrupt(), 130, "openrlhf: interrupted\n"),
        (plugins.PluginError("plugin 'x' failed"), 1, "openrlhf train: error: plugin 'x' failed\n"),
    ],
)
def test_how_a_run_ends(openrlhf, trainer, monkeypatch, error, code, text):
    def train(args):
        raise error

    monkeypatch.setattr(trainer, "train", train)
    assert openrlhf("train") == (code, "", text)


def test_other_errors_of_a_run_are_not_hidden(openrlhf, trainer, monkeypatch):
    monkeypatch.setattr(trainer, "train", lambda args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        openrlhf("train")


# Help and usage


def test_help_teaches(openrlhf):
    code, out, _ = openrlhf("--help")
    assert code == 0
    for word in [*main.TRAINERS, "plugins", "--config", "--dry-run", "examples:"]:
        assert word in out


def test_without_a_command_the_help_is_shown(openrlhf):
    code, out, err = openrlhf()
    assert (code, out) == (2, "") and "examples:" in err


def test_an_unknown_command(openrlhf):
    code, _, err = openrlhf("trian")
    assert (code, problems(err)) == (2, ["unknown command 'trian'; did you mean 'train'?"])


@pytest.mark.parametrize("flags", [["--help"], ["-h"], ["--actor.adam.lr", "1", "--help"]])
def test_a_trainers_help_groups_its_flags_and_shows_the_plugins(openrlhf, tau, flags):
    code, out, _ = openrlhf("train", "--plugins", "tau", *flags)
    assert code == 0
    headings = re.findall(r"^(\S+):$", out, re.MULTILINE)
    assert headings == ["options", "actor.*", "ckpt.*", "data.*", "eval.*", "made.*", "train.*"]
    assert "--made.tau float" in out and "for train, 100 % made up (default: 0.5)" in out
    assert "--actor.optim {adam,muon}" in out


def test_the_commands_that_plugins_add(openrlhf, install):
    code = """
        def add(parser):
            commands = parser.add_subparsers()
            double = commands.add_parser("double")
            double.add_argument("number", type=int)
            double.set_defaults(func=lambda args: print(2 * args.number))
            commands.add_parser("three").set_defaults(func=lambda args: 3)
    """
    install("made-up-command", code, {"made": "add"}, group="openrlhf.commands")
    assert "Made-up things (made-up-command)" in openrlhf("--help")[1]
    assert openrlhf("made", "double", "21") == (0, "42\n", "")
    assert openrlhf("made", "three")[0] == 3
    code, _, err = openrlhf("made")
    assert code == 2 and "usage: openrlhf made" in err
    assert openrlhf("made", "double", "x")[0] == 2


def test_a_command_is_imported_only_when_it_is_called(openrlhf, install):
    install("heavy", "import no_such_module", {"heavy": "add"}, group="openrlhf.commands")
    assert openrlhf("--help")[0] == 0
    code, _, err = openrlhf("heavy")
    (problem,) = problems(err)
    assert code == 2
    assert problem.startswith("command 'heavy' of heavy cannot be imported: ModuleNotFoundError: No module named")


def test_a_command_with_a_taken_name_is_refused(openrlhf, install):
    install("taker", "", {"train": "add"}, group="openrlhf.commands")
    code, _, err = openrlhf("train")
    assert (code, problems(err)) == (2, ["command 'train' of taker is already taken: uninstall one"])


def test_plugins_are_listed(openrlhf, install, tau):
    install("broken", "import no_such_module", {"broken": ""}, version="0.9")
    code, out, err = openrlhf("plugins", "--plugins", "tau")
    assert (code, err) == (0, "")
    head, *lines = [re.split(r"  +", line, maxsplit=3) for line in out.splitlines()]
    listed = {name: rest for name, *rest in lines}
    assert head == ["NAME", "DISTRIBUTION", "STATUS", "HOOKS"]
    assert listed["tau"] == ["made-up-tau 1.2", "loaded", "openrlhf_add_arguments, openrlhf_validate_config"]
    assert listed["big"] == ["made-up-tau 1.2", "installed", "openrlhf_check_machine, openrlhf_validate_config"]
    assert listed["tau-and-big"] == ["made-up-tau 1.2", "bundle", "= tau, big"]
    assert listed["broken"][:2] == ["broken 0.9", "error"]
    assert "No module named 'no_such_module'" in listed["broken"][2]


def test_the_list_is_shown_when_a_name_is_wrong(openrlhf, tau, monkeypatch):
    monkeypatch.setenv("OPENRLHF_PLUGINS", "tua")
    code, out, err = openrlhf("plugins")
    assert code == 2 and "made-up-tau 1.2" in out
    assert problems(err)[0].startswith("unknown plugin 'tua'; did you mean 'tau'?")


# Ranks


def test_a_single_rank_is_set_up_without_a_launcher(openrlhf, trainer):
    assert openrlhf("sft")[0] == 0
    assert [os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")] == ["0", "0", "1"]
    assert os.environ["MASTER_ADDR"] == "127.0.0.1"
    with socket.socket() as server:
        server.bind(("127.0.0.1", int(os.environ["MASTER_PORT"])))


def test_the_ranks_of_a_launcher_are_left_alone(openrlhf, trainer, monkeypatch):
    launched = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "host", "MASTER_PORT": "29"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    # The deepspeed launcher puts --local_rank before everything else.
    assert openrlhf("--local_rank=1", "sft")[0] == 0
    assert {name: os.environ[name] for name in launched} == launched
    assert trainer.runs[0].local_rank == 1


def test_ray_sets_its_own_ranks(openrlhf, trainer):
    assert openrlhf("train")[0] == 0
    assert "RANK" not in os.environ


def test_a_master_port_in_use_is_a_problem(openrlhf, trainer, monkeypatch):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = str(server.getsockname()[1])
        monkeypatch.setenv("MASTER_PORT", port)
        code, _, err = openrlhf("dpo")
    assert (code, trainer.runs) == (2, [])
    assert problems(err) == [f"MASTER_PORT={port}: Address already in use: unset it or choose another port"]
    assert openrlhf("dpo")[0] == 0
    assert os.environ["MASTER_PORT"] == port


@pytest.mark.parametrize("port", ["http", "70000", "-1"])
def test_a_master_port_that_is_none(openrlhf, trainer, monkeypatch, port):
    monkeypatch.setenv("MASTER_PORT", port)
    code, _, err = openrlhf("rm")
    assert code == 2 and problems(err)[0].startswith(f"MASTER_PORT='{port}' in the environment is not a port")


# The real trainers, in processes of their own


def cpu_seconds(*argv):
    """Of the command, the least of three runs: unlike its time, it says little of what else the machine does."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = [children.ru_utime + children.ru_stime]
    for _ in range(3):
        subprocess.run([sys.executable, "-m", "openrlhf.cli.main", *argv], check=True, stdout=subprocess.DEVNULL)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(children.ru_utime + children.ru_stime)
    return min(after - before for before, after in itertools.pairwise(used))


def test_help_takes_less_than_a_second_of_one_core():
    assert cpu_seconds("--help") < 1


def test_the_rl_trainers_help_needs_no_heavy_import():
    code = """
import sys
from openrlhf.cli import main
try:
    main.main(["train", "--help"])
finally:
    print("heavy:", {"torch", "vllm", "deepspeed", "transformers", "datasets"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "heavy: set()" in done.stdout


def test_the_rl_trainers_dry_run_takes_less_than_two_seconds_of_one_core():
    assert cpu_seconds("train", "--dry-run", "--reward.remote_url=r.py") < 2


def test_a_dry_run_may_be_cut_short():
    argv = [sys.executable, "-m", "openrlhf.cli.main", "train", "--dry-run", "--reward.remote_url=r.py"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 0


@pytest.mark.parametrize(
    "command",
    ["train_ppo_ray", *(pytest.param(f"train_{name}", marks=pytest.mark.stack) for name in ("sft", "dpo", "rm"))],
)
def test_the_command_gives_a_trainer_what_its_own_script_would(openrlhf, command, monkeypatch):
    """The same flags through the command and through `python -m openrlhf.cli.train_…` give the same arguments."""
    module = importlib.import_module(f"openrlhf.cli.{command}")
    flags = ["--train.seed", "7", "--ds.zero_stage", "3", "--ds.lora.target_modules", "q", "k", "--ckpt.save_hf"]
    if command == "train_ppo_ray":
        flags += ["--reward.remote_url", "reward.py", "--algo.advantage.estimator", "reinforce"]
    runs = []
    monkeypatch.setattr(module, "train", runs.append)
    name = next(name for name, (path, _) in main.TRAINERS.items() if path == module.__name__)
    assert openrlhf(name, *flags)[0] == 0
    expected = module.check_args(hierarchize(module.get_parser().parse_args(flags)))
    del runs[0].plugins, runs[0].config
    assert runs[0] == expected
