"""The auxiliary SFT loss (PTX): its gradient against a formula, its rows, and what is refused."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from openrlhf.models import Actor
from openrlhf.models.log_probs import ChunkedHead
from ranks import outcomes
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from kimi_plugins import options
from kimi_plugins.plugin import Policy
from kimi_plugins.policy.ptx import AuxiliaryLoss, load, rows_of_step
from kimi_plugins.policy.settings import problems
from kimi_plugins.preflight.auxiliary import check_auxiliary
from kimi_plugins.quickstart.model import build_model

WORKER = Path(__file__).parent / "ptx_worker.py"
COEF = 0.3
CASES = ["large micro-batches", "accumulation", "ZeRO 1", "ZeRO 2", "ZeRO 3", "ZeRO 2, dynamic batches"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What the ranks wrote, {number of ranks: [of each rank]}."""
    return outcomes(WORKER, tmp_path_factory.mktemp("ptx"), "ptx")


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_that_of_both_losses(results, world, case):
    for rank in results[world]:
        for iteration in rank[case]:
            assert iteration["error"] < 1e-5
            got, want = iteration["metric"]
            assert got == pytest.approx(want, rel=1e-5)
            assert iteration["skipped"] == 0


@pytest.mark.parametrize("count, size", [(10, 4), (3, 8), (1, 1), (7, 7)])
def test_every_row_comes_once_before_one_comes_again(count, size):
    steps = [rows_of_step(count, size, taken, 5) for taken in range(3 * count)]
    stream = [number for step in steps for number in step]
    for epoch in range(len(stream) // count):
        assert Counter(stream[epoch * count : (epoch + 1) * count]) == Counter(range(count))
    assert {len(step) for step in steps} == {size}


def test_the_order_is_of_the_seed_and_changes_from_epoch_to_epoch():
    one, again, other = ([rows_of_step(50, 50, taken, seed) for taken in (0, 1)] for seed in (5, 5, 6))
    assert one == again != other
    assert one[0] != one[1] != list(range(50))


class Engine(torch.nn.Module):
    """What the loss uses of DeepSpeed's engine, of 3 micro-batches an optimizer step."""

    def __init__(self, model):
        super().__init__()
        self.module, self.global_steps, self.boundary = model, 0, None

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)

    def gradient_accumulation_steps(self):
        return 3

    def set_gradient_accumulation_boundary(self, boundary):
        self.boundary = boundary

    def backward(self, loss):
        assert self.boundary is False
        (loss / 3).backward()


@pytest.fixture
def one_rank(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def tiny_actor(chunk_size):
    torch.manual_seed(0)
    sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=19)
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **sizes), attn_implementation="eager")
    torch.nn.init.normal_(network.lm_head.weight)
    actor = Actor(network, temperature=0.6)
    actor.packing_samples = False
    if chunk_size is not None:
        actor.chunked_head = ChunkedHead(network, chunk_size)
    actor.model = Engine(network)
    return actor, network


@pytest.mark.parametrize("chunk_size", [None, 4])
@pytest.mark.parametrize("micro", [1, 2, 8])
def test_it_is_transformers_own_loss_at_temperature_1(one_rank, micro, chunk_size):
    actor, network = tiny_actor(chunk_size)
    rows = [(torch.randint(0, 19, (length,)), torch.arange(length - 1) >= 2) for length in (5, 9, 7)]
    loss = AuxiliaryLoss(actor, rows, coef=COEF, size=3, micro=micro, seed=0).add_gradient()
    got = [parameter.grad.clone() for parameter in network.parameters()]
    assert actor.temperature == 0.6

    network.zero_grad()
    tokens = sum(trained.sum() for _, trained in rows)
    total = 0.0
    for row, trained in rows:
        labels = torch.cat([torch.tensor([-100]), torch.where(trained, row[1:], -100)])
        total = total + network(row[None], labels=labels[None]).loss * trained.sum() / tokens
    (COEF * total).backward()
    assert loss == pytest.approx(total.item(), rel=1e-5)
    for gradient, parameter in zip(got, network.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, atol=1e-6, rtol=1e-4)


def test_a_loss_that_is_not_finite_ends_the_run(one_rank):
    actor, network = tiny_actor(None)
    torch.nn.init.constant_(network.lm_head.weight, float("nan"))
    rows = [(torch.arange(5), torch.ones(4, dtype=torch.bool))]
    with pytest.raises(ValueError, match="the loss of kimi.policy.ptx_dataset is nan after 0 optimizer steps"):
        AuxiliaryLoss(actor, rows, coef=COEF, size=1, micro=1, seed=0).add_gradient()
    assert actor.temperature == 0.6


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    build_model(directory, seed=0)
    return directory


ROWS = [
    {"input": "1+2=", "output": "3"},
    {"input": "12+13=", "output": "2+3=5\n1+1=2\n25"},
    {"input": "0", "output": "1\n"},
]


def arguments(directory, model, rows, **changed):
    """Of a run whose auxiliary loss has these rows: objects, or lines as they are."""
    path = directory / "kept.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return SimpleNamespace(
        actor=SimpleNamespace(model_name_or_path=str(model)),
        data=SimpleNamespace(
            input_template=changed.pop("input_template", None),
            apply_chat_template=False,
            max_len=changed.pop("max_len", 64),
            disable_fast_tokenizer=False,
        ),
        train=SimpleNamespace(micro_batch_size=2, seed=42),
        kimi=SimpleNamespace(policy=replace(options.Policy(), ptx_dataset=str(path), **changed)),
    )


@pytest.mark.parametrize("template", [None, "={}="])
def test_rows_are_prompt_response_and_end(tmp_path, model, template):
    args = arguments(tmp_path, model, ROWS, input_template=template)
    assert list(check_auxiliary(args)) == []
    loaded = load(None, args)
    assert (loaded.coef, loaded.size, loaded.micro, loaded.seed) == (0.1, 8, 2, 42)
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert len(loaded.rows) == len(ROWS)
    for (tokens, trained), row in zip(loaded.rows, ROWS, strict=True):
        prompt = (template or "{}").format(row["input"])
        whole = tokenizer.decode(tokens)
        assert whole.startswith(prompt + row["output"].rstrip("\n")) and tokens[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(tokens[1:][~trained]) == tokenizer.decode(tokenizer(prompt)["input_ids"][1:])
        assert trained.sum() == len(tokens) - len(tokenizer(prompt, add_special_tokens=False)["input_ids"])


def test_a_rank_loads_the_rows_once_and_logs_the_loss(tmp_path, model, monkeypatch):
    plugin, args = Policy(), arguments(tmp_path, model, ROWS, optimizer_reset="none")
    nothing = SimpleNamespace(advantages=torch.zeros(2, 3), action_mask=torch.ones(2, 3), info={})
    plugin.openrlhf_before_policy_update("actor", args)
    loaded = plugin.auxiliary
    plugin.openrlhf_before_policy_update("actor", args)
    assert plugin.auxiliary is loaded and loaded.actor == "actor"
    monkeypatch.setattr(loaded, "add_gradient", lambda: 1.5)
    assert plugin.openrlhf_before_optimizer_step([nothing], 0, None, None, 1, args) is False
    assert nothing.info["kimi/sft_loss"].tolist() == [1.5, 1.5]

    other = Policy()
    other.openrlhf_before_policy_update("actor", SimpleNamespace(kimi=SimpleNamespace(policy=options.Policy())))
    assert other.auxiliary is None


@pytest.mark.parametrize(
    "rows, changed, told",
    [
        ([], {}, "holds no rows; give a file with data"),
        ([{"input": "1"}], {}, "row 1: no key 'output'; add it, or set kimi.policy.ptx_output_key to one of its keys"),
        (ROWS, {"ptx_input_key": "prompt"}, "rows 1, 2, 3: no key 'prompt'; add it, or set kimi.policy.ptx_input_key"),
        ([*ROWS, {"input": "1", "output": " "}], {}, "row 4: 'output' is empty; fill it in or remove the row"),
        ([{"input": ["1"], "output": "1"}], {}, "row 1: 'input' is no text"),
        ([*ROWS, "{"], {}, "row 4: "),
        (['["a"]'], {}, 'row 1: no object; write one with "input" and "output"'),
        (
            ROWS,
            {"max_len": 16},
            "row 2: longer than data.max_len 16 tokens; shorten or remove it, or raise data.max_len",
        ),
    ],
)
def test_rows_that_cannot_be_used_are_refused_before_the_run_and_by_it(tmp_path, model, rows, changed, told):
    args = arguments(tmp_path, model, rows, **changed)
    [problem] = check_auxiliary(args)
    assert problem.startswith(f"kimi.policy.ptx_dataset: {tmp_path}") and told in problem
    with pytest.raises(ValueError, match="kimi.policy.ptx_dataset"):
        load(None, args)


def test_a_data_set_that_is_not_there_is_refused(tmp_path, model):
    args = arguments(tmp_path, model, ROWS)
    Path(args.kimi.policy.ptx_dataset).unlink()
    [problem] = check_auxiliary(args)
    assert "kept.jsonl does not exist; give a file or a directory" in problem
    args.kimi.policy = options.Policy()
    assert list(check_auxiliary(args)) == []


def settings(policy, *, nodes=1, ranks=1, ring=1, parallel=1, images=0):
    algo = SimpleNamespace(
        advantage=SimpleNamespace(estimator="dr_grpo", is_correction_level="off", old_log_probs="actor"),
        kl=SimpleNamespace(init_coef=0),
    )
    return SimpleNamespace(
        actor=SimpleNamespace(num_nodes=nodes, num_gpus_per_node=ranks, loss_agg_mode="token-mean", eps_clip=0.2),
        ds=SimpleNamespace(ring_attn_size=ring, tensor_parallel_size=parallel),
        data=SimpleNamespace(max_images_per_prompt=images),
        algo=algo,
        kimi=SimpleNamespace(policy=policy),
    )


USED = options.Policy(ptx_dataset="kept.jsonl")


@pytest.mark.parametrize(
    "args, told",
    [
        (settings(replace(USED, ptx_coef=0.0)), "kimi.policy.ptx_coef is 0.0: it must be a finite number > 0"),
        (settings(replace(USED, ptx_coef=-1.0)), "kimi.policy.ptx_coef is -1.0: it must be a finite number > 0"),
        (
            settings(replace(USED, ptx_coef=float("nan"))),
            "kimi.policy.ptx_coef is nan: it must be a finite number > 0",
        ),
        (settings(replace(USED, ptx_rows=0)), "kimi.policy.ptx_rows is 0: it must be a number of rows ≥ 1"),
        (settings(USED, nodes=3), "kimi.policy.ptx_rows is 8 with 3 ranks of the policy"),
        (settings(USED, ring=2), "with ds.ring_attn_size 2: the auxiliary loss takes whole rows"),
        (settings(USED, parallel=2), "with ds.tensor_parallel_size 2: the auxiliary loss takes whole rows"),
        (settings(USED, images=1), "with data.max_images_per_prompt 1"),
        (settings(options.Policy(ptx_coef=0.2)), "kimi.policy.ptx_coef is 0.2: it has no effect without"),
    ],
)
def test_settings_that_cannot_work_are_one_problem_each(monkeypatch, args, told):
    monkeypatch.setattr("kimi_plugins.policy.settings.NO_EFFECT", {})
    args.rollout = SimpleNamespace(n_samples_per_prompt=4, top_p=1.0)
    [problem] = problems(args)
    assert told in problem


def test_an_auxiliary_loss_is_accepted(monkeypatch):
    monkeypatch.setattr("kimi_plugins.policy.settings.NO_EFFECT", {})
    args = settings(USED, nodes=2, ranks=4)
    args.rollout = SimpleNamespace(n_samples_per_prompt=4, top_p=1.0)
    assert problems(args) == []
