"""`openrlhf kimi migrate`: launch scripts of several releases as configurations that --dry-run takes."""

import argparse
import re
import subprocess
import sys

import pytest
from openrlhf.cli.config import flatten, read_yaml, resolve
from openrlhf.utils.config import hierarchize

from kimi_plugins.cli import migrate
from kimi_plugins.migrate.configuration import parser_of, trainings

NEW = """
set -x
MODEL=org/model-7b
ray job submit --address="http://127.0.0.1:8265" \\
   --runtime-env-json='{"working_dir": "/code"}' \\
   -- python3 -m openrlhf.cli.train_ppo_ray \\
   --actor.model_name_or_path $MODEL \\
   --reward.remote_url "/code/my rewards/reward.py" \\
   --data.input_template "Question: {}
Answer: " \\
   --actor.adam.betas 0.9 0.99 \\
   --vllm.num_engines 2 \\
   --actor.num_gpus_per_node=2 \\
   --train.colocate_all \\
   --actor.eps_clip_low_high 0.2 0.27 \\
   --logger.wandb.key $WANDB_TOKEN
"""
OLD = """
# python3 -m openrlhf.cli.train_ppo_ray --pretrain not-this
FLAGS=(
   --pretrain org/model-7b      # the policy
   --remote_rm_url '/code/my rewards/reward.py'
   --input_template "Question: {}
Answer: "
   --adam_betas 0.9 0.99
   --bf16 --flash_attn
)
python3 -m openrlhf.cli.train_ppo_ray "${FLAGS[@]}" \\
   --vllm_num_engines 2 --actor_num_gpus_per_node=2 --colocate_all_models \\
   --prompt_max_len 512 --generate_max_len 1536 --max_norm 0.5 \\
   --vllm_is_correction_type icepop --enable_vllm_is_correction --ptx_coef 0.05 --perf
"""
SFT = """
read -r -d '' training_commands <<EOF
openrlhf.cli.train_sft \\
   --max_len 4096 \\
   --dataset org/data --pretrain $BASE \\
   --learning_rate 5e-6
EOF
echo $training_commands > log
if [[ ${1} != "slurm" ]]; then
    deepspeed --include localhost:0,1 --module $training_commands
fi
"""


@pytest.fixture
def run(tmp_path, capfd):
    """run(script, *flags): (exit code, {dotted key: value as text}, the file, standard error)."""

    def run(script, *flags):
        path = tmp_path / "launch.sh"
        path.write_text(script, encoding="utf-8")
        parser = argparse.ArgumentParser()
        migrate.add_parser(parser.add_subparsers())
        capfd.readouterr()
        args = parser.parse_args(["migrate", str(path), *map(str, flags)])
        code = args.func(args)
        out, err = capfd.readouterr()
        return code, settings(tmp_path, out), out, err

    return run


def settings(tmp_path, text):
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    found, problems = read_yaml(str(tmp_path / "run.yaml"))
    assert problems == []
    nodes = {key: setting.node.value for key, setting in found.items()}
    return {key: [item.value for item in value] if isinstance(value, list) else value for key, value in nodes.items()}


def test_a_script_of_today_resolves_to_what_its_flags_resolve_to(run, tmp_path):
    code, _, text, err = run(NEW)
    assert (code, err) == (0, "")
    (training,), problems = trainings(NEW, {})
    assert problems == []

    def values(argv, config):
        parser = parser_of("train")
        found, _ = read_yaml(config) if config else ({}, [])
        namespace, _, problems = resolve(parser, found, argv)
        assert problems == []
        return {key: value for key, value in flatten(hierarchize(namespace)).items() if "wandb" not in key}

    assert values([], str(tmp_path / "run.yaml")) == values([word.text for word in training.flags], None)
    assert "ray job submit" in text and "-- openrlhf train --config FILE.yaml" in text
    assert "$WANDB_TOKEN" not in text  # the key is a secret


def test_older_flags_become_todays(run):
    code, values, text, err = run(OLD)
    assert (code, err) == (0, "")
    assert values == {
        "actor.model_name_or_path": "org/model-7b",
        "reward.remote_url": "/code/my rewards/reward.py",
        "data.input_template": "Question: {}\nAnswer: ",
        "actor.adam.betas": ["0.9", "0.99"],
        "critic.adam.betas": ["0.9", "0.99"],
        "ds.param_dtype": "bf16",
        "ds.attn_implementation": "flash_attention_2",
        "vllm.num_engines": "2",
        "actor.num_gpus_per_node": "2",
        "train.colocate_all": "true",
        "rollout.max_new_tokens": "1536",
        "data.max_len": "2048",
        "actor.max_norm": "0.5",
        "critic.max_norm": "0.5",
        "algo.advantage.is_correction_level": "token",
        "algo.advantage.is_correction_mode": "mask",
    }
    assert re.search(r"^actor\.model_name_or_path: org/model-7b  # line 4, --pretrain$", text, re.MULTILINE)
    assert re.search(r"^# line 14: --ptx_coef 0\.05: .*PPO-ptx", text, re.MULTILINE)


def test_what_kimi_policy_would_need_stands_in_comments(run):
    _, _, text, _ = run(NEW)
    needs = text.partition("# With kimi-policy")[2]
    assert "algo.advantage.estimator is gae: set it to dr_grpo" in needs
    assert "algo.kl.init_coef is 0.01" in needs
    assert all(line.startswith("# ") for line in needs.splitlines()[1:])


@pytest.mark.stack  # its trainer imports DeepSpeed
def test_a_document_for_a_launcher_and_what_the_script_does_not_say(run):
    code, values, text, err = run(SFT)
    assert code == 1
    assert values["data.max_len"] == "4096" and values["adam.lr"] == "5e-6"
    assert "line 5: --pretrain: the script does not say what $BASE is; give --set BASE=…" in err
    assert "deepspeed --include localhost:0,1 --module openrlhf.cli.main sft --config FILE.yaml" in text

    code, values, _, _ = run(SFT, "--set", "BASE=/models/base")
    assert (code, values["model.model_name_or_path"]) == (0, "/models/base")


def test_a_variable_that_only_a_run_knows_is_named_as_the_script_names_it(run):
    array = "A=(\n --ckpt.path ${D}/out\n --remote_rm_url r.py\n)\n"
    script = f'D=$(cd .. && pwd)\n{array}python -m openrlhf.cli.train_ppo_ray "${{A[@]}}"\n'
    code, _, _, err = run(script)
    assert code == 1 and "line 3: --ckpt.path: the script does not say what ${D} is; give --set D=…" in err
    code, values, _, err = run(script, "--set", "D=/data")
    assert (code, values["ckpt.path"], err) == (0, "/data/out", "")


def test_what_needs_a_hand_is_listed_with_its_line(run):
    script = "python -m openrlhf.cli.train_ppo_ray \\\n  --foo 1 \\\n  --zero_stage x \\\n  # --bf16 \\\n  --seed 3\n"
    code, values, text, err = run(script)
    assert (code, values) == (1, {"ds.zero_stage": "x"})
    for problem in [
        "line 5: --seed and what follows never reached a trainer",
        "line 2: unknown flag --foo 1",
        "line 1: the configuration is not complete: its line 3: ds.zero_stage: invalid int value: 'x'",
    ]:
        assert problem in err
    assert "# line 2: unknown flag --foo 1" in text


def test_what_is_missing_is_said(run):
    code, _, _, err = run("python -m openrlhf.cli.train_ppo_ray --pretrain m\n")
    assert code == 1
    assert "the configuration is not complete: " in err and "reward.remote_url" in err


def test_several_trainings_are_several_files(run, tmp_path):
    loop = "for i in 1 2; do\n  python -m openrlhf.cli.train_ppo_ray --remote_rm_url r.py\ndone\n"
    script = f"{loop}openrlhf train --reward.remote_url s.py\n"
    code, _, _, err = run(script)
    assert code == 2 and "has 2 trainings (lines 2, 4)" in err
    code, _, out, err = run(script, "--out", tmp_path / "made.yaml")
    assert (code, out) == (0, "")
    for number, reward in ((1, "r.py"), (2, "s.py")):
        assert settings(tmp_path, (tmp_path / f"made-{number}.yaml").read_text()) == {"reward.remote_url": reward}
        assert f"openrlhf train --config {tmp_path / f'made-{number}.yaml'}" in err


def test_a_command_in_a_string_and_the_plugins_it_sets(run):
    command = (
        "OPENRLHF_PLUGINS=kimi python3 -m openrlhf.cli.train_ppo_ray \\\n --remote_rm_url r.py --kimi.policy.tau 0.2"
    )
    script = f'srun bash -c \\\n "cd /code && {command}" &>> log\n'
    (training,), problems = trainings(script, {})
    assert (training.plugins, problems) == ("kimi", [])
    assert [word.text for word in training.flags] == ["--remote_rm_url", "r.py", "--kimi.policy.tau", "0.2"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo hello\n", "it starts none of train_ppo_ray, train_sft, train_dpo, train_rm"),
        ("", "no training to migrate"),
        ("deepspeed --module openrlhf.cli.train_kto --bf16\n", "line 1: train_kto: KTO is no longer in OpenRLHF"),
        ("python -m openrlhf.cli.serve_rm --port 5000\n", "no training to migrate"),
    ],
)
def test_a_script_without_a_training_is_invalid_input(run, script, message):
    code, _, _, err = run(script)
    assert code == 2 and message in err


def test_bad_input(run, tmp_path):
    assert run(NEW, "--set", "X")[0] == 2
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (binary, tmp_path / "none.sh", tmp_path):
        result = subprocess.run(
            [sys.executable, "-m", "openrlhf.cli.main", "kimi", "migrate", str(path)], capture_output=True, text=True
        )
        assert result.returncode == 2 and result.stderr.startswith("openrlhf kimi migrate: error: ")
