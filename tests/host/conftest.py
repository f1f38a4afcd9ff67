"""Made-up plugins and a made-up trainer, installed as distributions in a directory on sys.path."""

import importlib
import sys
import textwrap

import pytest
from openrlhf import plugins
from openrlhf.cli import main

TRAINER = """
    import argparse

    runs = []

    def get_parser():
        parser = argparse.ArgumentParser()
        parser.add_argument("--actor.adam.lr", type=float, default=1e-6, help="learning rate")
        parser.add_argument("--actor.adam.betas", type=float, nargs=2, default=(0.9, 0.95))
        parser.add_argument("--actor.optim", choices=["adam", "muon"], default="adam")
        parser.add_argument("--actor.muon.nesterov", action="store_true", default=True)
        parser.add_argument("--actor.muon.no_nesterov", dest="actor.muon.nesterov", action="store_false")
        parser.add_argument("--actor.stuck", action="store_true", default=True)
        parser.add_argument("--actor.model", default=None)
        parser.add_argument("--train.colocate", action="store_true", default=False)
        parser.add_argument("--train.cache", action=argparse.BooleanOptionalAction, default=True)
        parser.add_argument("--train.batch_size", type=int, default=8)
        parser.add_argument("--train.micro_batch_size", type=int, default=None)
        parser.add_argument("--data.tags", nargs="*", default=["all"])
        parser.add_argument("--data.max_mem", type=float, default=1.0)
        parser.add_argument("--ckpt.path", default="ckpt")
        parser.add_argument("--ckpt.save_steps", type=int, default=-1)
        parser.add_argument("--ckpt.save_on_sigterm", action="store_true", default=False)
        parser.add_argument("--ckpt.load_enable", action="store_true", default=False)
        parser.add_argument("--eval.dataset", default=None)
        parser.add_argument("--max_norm", type=float, default=1.0)
        parser.add_argument("--local_rank", type=int, default=-1)
        return parser

    def check_args(args):
        if args.train.micro_batch_size is None:
            args.train.micro_batch_size = args.train.batch_size
        assert args.train.batch_size > 0, "train.batch_size must be positive"
        return args

    def train(args):
        runs.append(args)
"""


@pytest.fixture(autouse=True)
def clean_host(monkeypatch, tmp_path):
    """No plugin before and after each test, no launcher, and nothing left in the environment."""
    for name in ("OPENRLHF_PLUGINS", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # so that what the command sets is undone
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    yield
    for name in plugins.loaded():
        plugins._manager.unregister(name=name)
    vars(plugins).pop("hook", None)


@pytest.fixture
def install(monkeypatch, tmp_path):
    """install("made-up", code, {"entry point": "Object"}): a distribution of one module."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    modules = []

    def install(distribution, code, points, group="openrlhf", version="1.2"):
        module = distribution.replace("-", "_")
        header = "from openrlhf.plugins import hookimpl\n"
        (site / f"{module}.py").write_text(header + textwrap.dedent(code))
        info = site / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {distribution}\nVersion: {version}\nSummary: Made-up things\n")
        lines = [f"{name} = {module}{':' + target if target else ''}" for name, target in points.items()]
        (info / "entry_points.txt").write_text(f"[{group}]\n" + "\n".join(lines) + "\n")
        importlib.invalidate_caches()
        modules.append(module)

    yield install
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def trainer(install, monkeypatch):
    """A made-up trainer behind every trainer command; its `runs` are the arguments it was started with."""
    install("made-up-trainer", TRAINER, {})
    for command in list(main.TRAINERS):
        monkeypatch.setitem(main.TRAINERS, command, ("made_up_trainer", "a made-up trainer"))
    return importlib.import_module("made_up_trainer")


@pytest.fixture
def openrlhf(capfd):
    """openrlhf("train", …): run the command in this process; (exit code, standard output, standard error)."""

    def run(*argv):
        capfd.readouterr()
        try:
            code = main.main([str(word) for word in argv])
        except SystemExit as leave:  # argparse's --help and usage errors
            code = leave.code
        return code, *capfd.readouterr()

    return run
