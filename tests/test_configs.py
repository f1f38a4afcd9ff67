"""Every recipe passes --dry-run, and the annotated one sets what the policy needs."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from openrlhf.cli.config import read_yaml

from kimi_plugins.options import Policy

pytestmark = pytest.mark.slow  # each dry run is a process of its own

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path.relative_to(ROOT) for path in [*ROOT.glob("configs/*.yaml"), *ROOT.glob("examples/*/*.yaml")])
TEXT, VISION, LONG2SHORT = (Path(f"configs/{name}.yaml") for name in ("k15_7b_8gpu", "k15_vl_8gpu", "long2short_rl"))
LONG = Path("configs/k15_7b_128k_8gpu.yaml")
ANNOTATED = [TEXT, VISION]


def trainer_of(recipe):
    """There are recipes for RL, and without rollouts for supervised fine-tuning."""
    return "train" if any(key.startswith("rollout.") for key in settings(recipe)) else "sft"


def dry_run(recipe, *flags, config=None):
    command = [sys.executable, "-m", "openrlhf.cli.main", trainer_of(recipe)]
    run = [*command, "--config", str(config or recipe), *flags, "--dry-run"]
    # Plugins of the file's own go before those of the environment.
    environment = os.environ | {"OPENRLHF_PLUGINS": "kimi"}
    return subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def settings(recipe):
    """{dotted key: the value as written}."""
    found, problems = read_yaml(ROOT / recipe)
    assert problems == []
    return {key: setting.node.value for key, setting in found.items()}


def marked(recipe):
    marks = [pytest.mark.stack] if trainer_of(recipe) == "sft" else []  # its trainer imports DeepSpeed to parse flags
    return pytest.param(recipe, id=str(recipe), marks=marks)


@pytest.mark.parametrize("recipe", [marked(recipe) for recipe in RECIPES])
def test_has_no_configuration_problem(recipe):
    result = dry_run(recipe)
    assert result.returncode == 0, result.stderr


def values(report):
    """{dotted key: value} of a dry run's report, without the two that name the file and the time."""
    found = dict(re.findall(r"^(\S+) += (.*?)(?:  +\S.*)?$", report, re.MULTILINE))
    return {key: value for key, value in found.items() if key not in ("config", "logger.wandb.run_name")}


@pytest.mark.parametrize("recipe", [marked(recipe) for recipe in RECIPES])
def test_a_dry_run_as_yaml_reads_back_as_the_same_configuration(recipe, tmp_path):
    flags = ["--logger.wandb.project", "null", "--logger.wandb.group", "Frage: {}\nAntwort № ", "--ckpt.path=1e-6"]
    written = dry_run(recipe, *flags, "--yaml")
    assert written.returncode == 0, written.stderr
    (tmp_path / "again.yaml").write_text(written.stdout)
    expected = values(dry_run(recipe, *flags).stdout)
    assert len(expected) > 50 and expected["logger.wandb.project"] == '"null"'
    assert values(dry_run(recipe, config=tmp_path / "again.yaml").stdout) == expected


@pytest.mark.parametrize("recipe", ANNOTATED, ids=str)
@pytest.mark.parametrize(
    "key, value",
    [("algo.advantage.estimator", "rloo"), ("kimi.policy.tau", "0"), ("algo.kl.init_coef", "0.1")],
)
def test_the_policy_guards_the_annotated_recipes(recipe, key, value):
    result = dry_run(recipe, f"--{key}", value)
    assert result.returncode == 2
    assert f"kimi-policy: {key} is {float(value) if value[0].isdigit() else value}: " in result.stderr


@pytest.mark.parametrize("path", ANNOTATED, ids=str)
def test_the_annotated_recipes_set_what_the_policy_needs(path):
    recipe = settings(path)
    assert recipe["algo.advantage.estimator"] == "dr_grpo"
    assert float(recipe["algo.kl.init_coef"]) == 0
    assert int(recipe["rollout.n_samples_per_prompt"]) >= 2
    # Anything else would sample another policy than the one whose log-probs the actor recomputes.
    assert (float(recipe["rollout.temperature"]), float(recipe["rollout.top_p"])) == (1, 1)
    assert int(recipe["rollout.min_new_tokens"]) == 0
    # With one optimizer step an iteration the log ratio is 0 and τ has no effect.
    rollouts = int(recipe["rollout.batch_size"]) * int(recipe["rollout.n_samples_per_prompt"])
    assert rollouts > int(recipe["train.batch_size"])
    others = {"baseline_scale", "baseline_rises", "length_normalization", "log_ratio_low", "log_ratio_high"}
    others |= {"reset_every", "reset_warm_up"}
    others |= {field.name for field in fields(Policy) if field.name.startswith("ptx_")}
    assert {f"kimi.policy.{field.name}" for field in fields(Policy) if field.name not in others} <= set(recipe)


def test_the_vision_recipe_sets_what_images_need():
    recipe = settings(VISION)
    assert int(recipe["data.max_images_per_prompt"]) >= 1 and recipe["data.apply_chat_template"] == "true"
    assert recipe["ds.packing_samples"] == "false" and recipe["kimi.sampling.linked_key"] == "pair"
    # A prompt of the most images that vision-prepare makes fits.
    tokens = int(recipe["data.max_images_per_prompt"]) * 1280 + int(recipe["rollout.max_new_tokens"])
    assert tokens < int(recipe["data.max_len"])


def test_the_second_phase_of_long2short_is_the_first_with_shorter_rollouts():
    first, second = settings(TEXT), settings(LONG2SHORT)
    assert int(second["kimi.length.warm_up_steps"]) == 0 and float(second["kimi.length.weight"]) > 0
    assert int(second["rollout.max_new_tokens"]) <= int(first["rollout.max_new_tokens"]) / 4
    assert second["eval.steps"] == second["ckpt.save_steps"] and second["ckpt.save_hf"] == "true"
    changed = {key for key in second if second[key] != first[key]}
    assert changed <= {
        "kimi.length.warm_up_steps",
        "actor.model_name_or_path",
        "data.max_len",
        "rollout.max_new_tokens",
        "ckpt.path",
        "ckpt.output_dir",
        "ckpt.save_steps",
    }


def test_the_recipe_of_long_contexts_is_the_first_with_room():
    first, long = settings(TEXT), settings(LONG)
    assert {key for key in long if long[key] != first.get(key)} == {
        "actor.model_name_or_path",
        "ckpt.output_dir",
        "ckpt.path",
        "data.apply_chat_template",
        "data.max_len",
        "ds.logits_chunk_size",
        "ds.ring_attn_size",
        "kimi.rollout.max_age",
        "kimi.rollout.segment_tokens",
        "rollout.batch_size",
        "rollout.max_new_tokens",
        "rollout.max_tokens_per_gpu",
        "train.batch_size",
        "train.max_tokens_per_gpu",
        "vllm.gpu_memory_utilization",
    }
    assert set(first) <= set(long)


@pytest.mark.parametrize("recipe", ANNOTATED, ids=str)
def test_every_key_of_the_annotated_recipes_says_why(recipe):
    lines = (ROOT / recipe).read_text().splitlines()
    for above, line in zip(lines, lines[1:], strict=False):
        if re.match(r" *\w+: [^#]", line):
            assert "  # " in line or above.lstrip().startswith("# "), line


def test_the_checks_of_a_run_do_not_wait_for_torch():
    code = (
        "import sys; from openrlhf.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]) or sorted({'torch', 'transformers', 'vllm'} & set(sys.modules)) or 0)"
    )
    words = ["train", "--plugins", "kimi", "--config", str(TEXT), "--dry-run"]
    result = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
