"""Whether a Ray cluster has room for a run, and whether its nodes have what the run needs there."""

import copy
import math
import os
import pickle
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
from openrlhf.utils.config import hierarchize

from kimi_plugins import options
from kimi_plugins.preflight import cluster, join, nodes

ADDRESS = "10.0.0.1:6379"


def node(gpus, cpus, used=(0, 0), address="10.0.0.1", accelerator=False):
    return cluster.Node(address, gpus, cpus, gpus - used[0], cpus - used[1], accelerator)


def problem(needed, *found):
    return cluster.room_problem("2 engines of 1 and 2 actor ranks", needed, list(found), ADDRESS)


def packs(needed, offers):
    """Whether `needed` bundles of 1 GPU and 1 CPU, then an actor of 1 CPU, find nodes, by trying all placements."""
    for placement in product(range(len(offers)), repeat=needed):
        left = [
            (gpus - placement.count(index), cpus - placement.count(index)) for index, (gpus, cpus) in enumerate(offers)
        ]
        if all(min(rest) >= 0 for rest in left) and any(cpus >= 1 for _, cpus in left):
            return True
    return False


class TestRoom:
    def test_as_trying_all_placements(self):
        offers = list(product([0, 0.5, 1, 2], [0, 1, 2]))
        for first, second, needed in product(offers, offers, [1, 2, 3]):
            found = problem(needed, node(*first), node(*second))
            assert (found is None) == packs(needed, [first, second]), (first, second, needed)

    def test_hosts_without_gpus(self):
        line = problem(3, node(0, 2), node(0, 4, address="10.0.0.2"))
        assert line.startswith("actor.num_nodes: 2 engines of 1 and 2 actor ranks need 3 GPUs with a CPU each")
        assert "too small, 10.0.0.1 (GPU 0, CPU 2), 10.0.0.2 (GPU 0, CPU 4); hosts without GPUs" in line
        assert "`ray start … --num-gpus 2 --num-cpus 3`" in line and "--wait" in line

    def test_the_flags_it_names_are_enough(self):
        for needed, count in product([1, 2, 3, 5], [1, 2, 3]):
            line = problem(needed, *[node(0, 1)] * count)
            words = line.partition("--num-gpus ")[2].partition("`")[0].split()
            assert problem(needed, *[node(int(words[0]), int(words[2]))] * count) is None

    def test_hosts_with_gpus(self):
        line = problem(9, node(8, 64, accelerator=True))
        assert f"add hosts (`ray start --address={ADDRESS}`), or ask for fewer" in line and "--num-gpus" not in line

    def test_in_use(self):
        line = problem(2, node(2, 4, used=(1, 1)))
        assert "in use; free are 10.0.0.1 (GPU 1, CPU 3); end what uses them" in line
        busy = replace(node(2, 4, used=(1, 1)), actors=("Other (7)", "Engine (8)"))
        assert "in use by Other (7) on 10.0.0.1, Engine (8) on 10.0.0.1; free are" in problem(2, busy)
        assert problem(1, node(2, 4, used=(1, 1))) is None

    def test_no_node(self):
        assert "too small, no node lives" in problem(1)


class TestWaiting:
    @pytest.fixture
    def wait(self):
        """wait(answers, seconds): (what was found, what was said, seconds waited); the last answer stays."""

        def wait(answers, seconds):
            now, said, left = [100.0], [], list(answers)

            def sleep(time):
                now[0] += time

            found = cluster.wait_for_room(
                lambda: left.pop(0) if len(left) > 1 else left[0], seconds, said.append, lambda: now[0], sleep
            )
            return found, said, now[0] - 100

        return wait

    def test_not_at_all(self, wait):
        assert wait(["small"], 0.0) == ("small", [], 0)

    def test_until_there_is_room(self, wait):
        found, said, waited = wait(["one"] * 10 + ["two"] * 15 + [None], math.inf)
        assert found is None and waited == 25
        assert said == [
            "waiting for the Ray cluster, 0 s: one",
            "waiting for the Ray cluster, 10 s: two",
            "waiting for the Ray cluster, 20 s",
        ]

    def test_no_longer_than_told(self, wait):
        found, said, waited = wait(["small"], 15.0)
        assert found == "small" and waited == 15 and len(said) == 2

    @pytest.mark.parametrize(
        "words, value", [([], 0), (["--wait"], math.inf), (["--wait", "5"], 5), (["--kimi.cluster.wait", "7"], 7)]
    )
    def test_the_flag(self, words, value):
        from openrlhf.cli.train_ppo_ray import get_parser

        parser = get_parser()
        options.add_cluster_arguments(parser)
        args = hierarchize(parser.parse_args(words))
        assert args.kimi.cluster.wait == value and list(options.invalid(args, "cluster")) == []
        args.kimi.cluster.wait = -1.0
        [line] = options.invalid(args, "cluster")
        assert line == "kimi.cluster.wait is -1.0: it must be 0 seconds or more"


class TestNodes:
    @pytest.fixture
    def needs(self, tmp_path):
        (tmp_path / "model").mkdir()
        (tmp_path / "model/config.json").write_text("{}")
        (tmp_path / "data.jsonl").write_text("{}\n")
        files = {
            str(tmp_path / "model"): "actor.model_name_or_path",
            str(tmp_path / "data.jsonl"): "data.prompt_dataset",
        }
        return nodes.Needs(("openrlhf", "kimi_plugins"), files, (str(tmp_path / "ckpt/.seen"), "ckpt.path"))

    @pytest.fixture
    def here(self, needs):
        found = nodes.report(needs.packages, list(needs.files), None)
        assert found["marker"] and found["packages"]["kimi_plugins"][1] != found["packages"]["openrlhf"][1]
        return found | {"shared_memory": 2**30}

    @pytest.fixture
    def only(self, here, needs):
        """only(change): the one line about a node of which change(report) has made another than this machine."""

        def only(change):
            there = copy.deepcopy(here)
            assert list(nodes.differences("10.0.0.2", here, there, needs)) == []
            change(there)
            [line] = nodes.differences("10.0.0.2", here, there, needs)
            assert "10.0.0.2" in line and "; " in line
            return line

        return only

    def test_other_code(self, only):
        def version(there):
            there["packages"]["openrlhf"] = ("0.11.2", "0")

        def files(there):
            there["packages"]["kimi_plugins"] = (there["packages"]["kimi_plugins"][0], "0")

        assert only(version).startswith("openrlhf: 0.11.2 on node 10.0.0.2, 0.11.2+kimi.1 here; install")
        assert only(files).startswith("kimi_plugins: other files of ")
        assert only(lambda there: there["packages"].update(openrlhf=None)).startswith("openrlhf: not installed on")
        assert only(lambda there: there.update(python="3.11.1")).startswith("Python: 3.11.1 on node")

    def test_other_files(self, only, tmp_path):
        path = str(tmp_path / "data.jsonl")
        line = only(lambda there: there["files"].update({path: None}))
        assert line.startswith(f"data.prompt_dataset: {path} is not on node 10.0.0.2; copy it there")
        line = only(lambda there: there["files"].update({path: {"data.jsonl": 2}}))
        assert f"{path} is another on node 10.0.0.2 (see data.jsonl)" in line

    def test_what_cannot_be_read_there(self, only, tmp_path, monkeypatch):
        path = str(tmp_path / "model")
        line = only(lambda there: there["files"].update({path: "Permission denied"}))
        assert line.startswith(f"actor.model_name_or_path: {path} cannot be read on node 10.0.0.2 (Permission denied)")
        monkeypatch.setattr(nodes.os, "access", lambda place, mode: False)  # root may read all
        assert nodes.contents(path) == "Permission denied"

        def stale(place):
            raise OSError(116, "Stale file handle")

        monkeypatch.setattr(nodes.Path, "exists", stale)
        assert nodes.contents(path) == "Stale file handle"

    def test_checkpoints_that_are_seen_and_cannot_be_written(self, only, tmp_path):
        line = only(lambda there: there.update(writable=False))
        assert line.startswith(f"ckpt.path: {tmp_path / 'ckpt'} cannot be written on node 10.0.0.2")
        assert nodes.report((), [], str(tmp_path / "seen"))["writable"]
        assert not nodes.report((), [], str(tmp_path / "none/seen"))["writable"]

    def test_a_relative_path_is_where_ray_runs(self, here, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        needs = nodes.Needs((), {"data.jsonl": "eval.dataset"}, None)
        here = nodes.report((), ["data.jsonl"], None)
        there = here | {"files": {"data.jsonl": None}, "directory": "/root"}
        [line] = nodes.differences("10.0.0.2", here, there, needs)
        assert "data.jsonl is not on node 10.0.0.2 (a relative path; Ray runs in /root there); copy" in line

    def test_checkpoints_apart(self, only, tmp_path):
        line = only(lambda there: there.update(marker=False))
        assert line.startswith(f"ckpt.path: what is written to {tmp_path / 'ckpt'} is not seen on node 10.0.0.2")

    @pytest.mark.parametrize("size, found", [(None, "missing"), (2**26, "64 MiB"), (2**27 - 1, "128 MiB")])
    def test_shared_memory(self, only, size, found):
        line = only(lambda there: there.update(shared_memory=size))
        assert line.startswith(f"/dev/shm: {found} on node 10.0.0.2") and "--shm-size=1g" in line

    def test_the_digest_is_of_the_source(self, tmp_path, monkeypatch):
        package = tmp_path / "a_package_of_this_test"
        (package / "part").mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "part/module.py").write_text("x = 1\n")
        monkeypatch.syspath_prepend(tmp_path)
        first = nodes.code(package.name)
        (package / "__pycache__").mkdir()
        (package / "__pycache__/module.pyc").touch()
        assert nodes.code(package.name) == first
        (package / "part/module.py").write_text("x = 2\n")
        assert nodes.code(package.name) != first
        assert nodes.code("no_such_package") is None

    def test_the_report_needs_nothing_of_ours_there(self, tmp_path):
        """Sent by value, as Ray does it, to a Python that has nothing but Ray's cloudpickle."""
        cloudpickle = pytest.importorskip("ray.cloudpickle")
        cloudpickle.register_pickle_by_value(nodes)
        (tmp_path / "sent").write_bytes(cloudpickle.dumps(nodes.report))
        cloudpickle.unregister_pickle_by_value(nodes)
        (tmp_path / "site/ray").mkdir(parents=True)
        (tmp_path / "site/ray/cloudpickle").symlink_to(Path(cloudpickle.__file__).parent)
        code = (
            f"import sys, pickle; sys.path.append({str(tmp_path / 'site')!r})\n"
            "report = pickle.loads(open('sent', 'rb').read())\n"
            "print(report(('kimi_plugins',), [], None)['packages'], 'kimi_plugins' in sys.modules)"
        )
        command = [sys.executable, "-I", "-S", "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.stdout.strip() == "{'kimi_plugins': None} False", done.stderr


class TestNeeds:
    @pytest.fixture
    def args(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in ("model", "rows"):
            Path(name).mkdir()
        for name in ("a.jsonl", "reward.py"):
            Path(name).touch()
        group = {"num_nodes": 1, "num_gpus_per_node": 1}
        flat = {
            f"{name}.{key}": value for name in ("actor", "ref", "critic", "reward") for key, value in group.items()
        }
        flat |= {
            "actor.model_name_or_path": "model",
            "critic.model_name_or_path": None,
            "reward.model_name_or_path": "model",
            "reward.remote_url": "reward.py",
            "train.agent_func_path": None,
            "algo.kl.init_coef": 0.0,
            "algo.advantage.estimator": "dr_grpo",
            "data.prompt_dataset": "a.jsonl, rows@part,openai/gsm8k",
            "eval.dataset": None,
            "ckpt.path": "new/ckpt",
            "ckpt.save_steps": 1,
            "plugins": ["kimi", "kimi-log"],
        }
        return hierarchize(SimpleNamespace(**flat))

    def test_what_is_here_is_needed_there(self, args):
        expected = {
            "model": "actor.model_name_or_path",
            "a.jsonl": "data.prompt_dataset",
            "rows": "data.prompt_dataset",
            "reward.py": "reward.remote_url",
        }
        assert nodes.files_needed(args) == expected
        args.reward.remote_url = ["http://10.0.0.1/get_reward"]
        assert "reward.py" not in nodes.files_needed(args)

    def test_the_marker_is_there_while_it_is_asked_for(self, args):
        with join.needs_of(args) as needs:
            assert needs.packages == ("openrlhf", "kimi_plugins")
            path, key = needs.marker
            assert key == "ckpt.path" and Path(path).parent == Path(".") and os.path.exists(path)
            assert nodes.report((), [], path)["marker"]
        assert not os.path.exists(path) and not os.path.exists("new")
        assert not nodes.report((), [], path)["marker"]
        args.ckpt.save_steps = -1
        with join.needs_of(args) as needs:
            assert needs.marker is None

    def test_a_report_can_be_sent_back(self):
        report = nodes.report(("kimi_plugins",), [], None)
        assert pickle.loads(pickle.dumps(report)) == report


class TestCheck:
    """check_cluster with the cluster's answers made up; with real ones: stack/test_two_hosts.py."""

    @pytest.fixture
    def check(self, monkeypatch, tmp_path):
        """check(nodes, reports): the problems on a cluster of these nodes, with these reports for good ones."""
        monkeypatch.setenv("RAY_ADDRESS", ADDRESS)
        needs = nodes.Needs((), {}, None)
        good = nodes.report((), [], None) | {"shared_memory": 2**30}
        args = SimpleNamespace(kimi=SimpleNamespace(cluster=SimpleNamespace(wait=0.0)))

        def check(found, answers=None):
            monkeypatch.setattr(join, "joined", lambda: nullcontext(ADDRESS))
            monkeypatch.setattr(join, "living_nodes", lambda: {str(n): node for n, node in enumerate(found)})
            monkeypatch.setattr(join, "needs_of", lambda args: nullcontext(needs))
            monkeypatch.setattr(join, "reports", lambda found, needs: {"10.0.0.1": good} | (answers or {}))
            monkeypatch.setattr(join.machine, "gpus_needed", lambda args: 2)
            monkeypatch.setattr(join.machine, "request", lambda args: "2 engines")
            return list(join.check_cluster(args))

        return check

    def test_room_comes_first(self, check):
        assert check([node(2, 4)]) == []
        [line] = check([node(1, 4)], {"10.0.0.2": "did not answer"})
        assert "too small" in line

    def test_what_the_last_run_gives_back_is_waited_for(self, check, monkeypatch):
        now = [0.0]
        clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: now.append(now.pop() + seconds))
        monkeypatch.setattr(join, "time", clock)
        [line] = check([node(2, 4, used=(1, 1))])
        assert "in use; free are" in line and now == [join.SETTLE_SECONDS]

    def test_a_node_without_an_answer_is_named(self, check):
        [line] = check([node(2, 4)], {"10.0.0.2": "did not answer within 60 s"})
        assert line.startswith("10.0.0.2: the check of this node failed (did not answer within 60 s); see")

    @pytest.mark.parametrize("error", [ConnectionError("no GCS"), RuntimeError("Version mismatch:\n  Ray: 2.54.0")])
    def test_a_cluster_that_cannot_be_joined(self, check, monkeypatch, error):
        def joined():
            raise error

        check([])
        monkeypatch.setattr(join, "joined", joined)
        [line] = join.check_cluster(None)
        assert line.startswith("RAY_ADDRESS: this process cannot join the Ray cluster (") and "\n" not in line

    @pytest.mark.parametrize("address", ["local", "ray://10.0.0.1:10001"])
    def test_no_cluster_or_a_client(self, monkeypatch, address):
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert list(join.check_cluster(None)) == []
