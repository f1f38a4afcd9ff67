"""What the patches change for vision models, without an engine; the rest is in test_vision.py."""

import asyncio
import sys
from types import SimpleNamespace

import pytest
import torch
from openrlhf.models import Actor
from openrlhf.trainer.ppo_trainer import compute_eval_metrics
from openrlhf.trainer.ray import vllm_engine
from openrlhf.utils.agent import SingleTurnAgentExecutor
from openrlhf.utils.utils import get_tokenizer, zero_pad_sequences
from openrlhf.utils.vlm_utils import media_token_ids, merge_mm_train_inputs
from PIL import Image
from transformers import AutoConfig, AutoProcessor, Qwen3VLForConditionalGeneration

from kimi_plugins.vision.tiny_model import IMAGE, VIDEO, build_model

pytestmark = pytest.mark.stack

SYMBOLS = [*"0123", "how many?"]
MESSAGES = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "how many?"}]}]


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    build_model(directory, SYMBOLS, seed=0)
    return directory


@pytest.fixture(scope="module")
def processor(model_directory):
    return AutoProcessor.from_pretrained(model_directory)


def test_the_placeholders_are_those_of_the_processor(model_directory, processor):
    ids = media_token_ids(AutoConfig.from_pretrained(model_directory))
    assert ids == {processor.image_token_id, processor.video_token_id}
    assert ids == set(processor.tokenizer.convert_tokens_to_ids([IMAGE, VIDEO]))
    assert media_token_ids(AutoConfig.for_model("qwen3")) == set()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_actors_policy_is_the_softmax_over_all_other_tokens(model_directory, processor, temperature):
    actor = Actor(str(model_directory), attn_implementation="eager", temperature=temperature)
    plain = Qwen3VLForConditionalGeneration.from_pretrained(model_directory, attn_implementation="eager")
    prompt = processor.apply_chat_template(MESSAGES, add_generation_prompt=True)
    inputs = processor(text=[prompt + "3<eos>"], images=[Image.new("RGB", (64, 64), "red")], return_tensors="pt")
    tokens, mask = inputs["input_ids"], inputs["attention_mask"]
    images = {name: inputs[name] for name in ("pixel_values", "image_grid_thw")}
    action_mask = torch.zeros(1, tokens.shape[1] - 1, dtype=torch.long)
    action_mask[:, -2:] = 1

    with torch.compiler.set_stance("force_eager"):  # the entropy is compiled, which takes half a minute
        got, output = actor(tokens, action_mask, mask, return_output=True, return_entropy=True, **images)
    got.sum().backward()

    logits = plain(**inputs).logits.float()[0, -3:-1] / temperature  # those of the two actions
    others = [i for i in range(logits.shape[-1]) if i not in media_token_ids(plain.config)]
    policy = logits[:, others].log_softmax(-1)
    expected = [policy[n, others.index(token)] for n, token in enumerate(tokens[0, -2:].tolist())]
    assert got[0, -2:].tolist() == pytest.approx([value.item() for value in expected], abs=1e-5)
    assert logits.log_softmax(-1)[:, others].exp().sum(-1).max() < 0.95  # the placeholders would have had a share
    assert output.entropy[0, -2:].tolist() == pytest.approx((-policy.exp() * policy).sum(-1).tolist(), abs=1e-4)
    gradients = [parameter.grad for parameter in actor.model.model.visual.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_images_and_text_in_one_batch_do_not_change_each_other(model_directory, processor):
    actor = Actor(str(model_directory), attn_implementation="sdpa").float()
    prompt = processor.apply_chat_template(MESSAGES, add_generation_prompt=True)
    alone = [
        processor(text=[prompt + "3<eos>"], images=[Image.new("RGB", (64, 32), "red")], return_tensors="pt"),
        processor(text=["<user>how many?<assistant>0123<eos>"], return_tensors="pt"),
        processor(text=[prompt + "12<eos>"], images=[Image.new("RGB", (16, 48), "blue")], return_tensors="pt"),
    ]
    images = [{k: one[k] for k in ("pixel_values", "image_grid_thw") if k in one} or None for one in alone]

    def log_probs(tokens, images):
        mask = tokens != processor.tokenizer.pad_token_id
        with torch.no_grad():
            return actor(tokens, mask[:, 1:].long(), mask.long(), **merge_mm_train_inputs([images], "cpu"))

    together = log_probs(zero_pad_sequences([one["input_ids"] for one in alone], "right"), images)
    for row, one, image in zip(together, alone, images, strict=True):
        [single] = log_probs(one["input_ids"], [image])
        assert row[: len(single)].tolist() == pytest.approx(single.tolist(), abs=1e-4)


@pytest.fixture
def engine(monkeypatch, processor):
    """The engine's actor around a stand-in for vLLM, which keeps what it was asked for."""
    monkeypatch.setitem(sys.modules, "vllm.inputs", SimpleNamespace(TokensPrompt=dict))
    monkeypatch.setitem(sys.modules, "vllm.utils", SimpleNamespace(random_uuid=lambda: "1"))
    cls = vllm_engine.RolloutRayActor.__ray_metadata__.modified_class
    engine = object.__new__(cls)
    engine._mm_pad_token_ids = {processor.image_token_id, processor.video_token_id}

    async def generate(prompt, sampling_params, request_id):
        engine.asked = prompt, sampling_params
        yield SimpleNamespace(outputs=[SimpleNamespace(token_ids=engine.answer, logprobs=None, finish_reason="stop")])

    engine.llm = SimpleNamespace(generate=generate)
    return engine


@pytest.mark.parametrize("asked_for", [None, {7: 2.0}])
def test_the_engine_forbids_the_placeholders(engine, asked_for):
    engine.answer = [4]
    params = SimpleNamespace(logit_bias=asked_for)
    asyncio.run(engine.generate([1, 2], params))  # a text may not hold them either
    forbidden = dict.fromkeys(engine._mm_pad_token_ids, -100.0)
    assert engine.asked[1].logit_bias == (asked_for or {}) | forbidden
    assert params.logit_bias == asked_for  # the caller's are shared by all samples


@pytest.mark.parametrize("with_image", [True, False])
def test_the_reward_functions_query_is_the_prompt_and_the_response(engine, processor, with_image, tmp_path):
    reward = tmp_path / "reward.py"
    reward.write_text(
        "seen = []\ndef reward_func(queries, prompts, labels):\n"
        '    seen.append((queries, prompts))\n    return {"rewards": [1.0]}\n'
    )
    executor = SingleTurnAgentExecutor([str(reward)])
    prompt = processor.apply_chat_template(MESSAGES, add_generation_prompt=True)
    if not with_image:
        prompt = prompt.replace(IMAGE, "")
    engine.answer = processor.tokenizer("31<eos>")["input_ids"]
    params = SimpleNamespace(max_tokens=4, logprobs=None, logit_bias=None)
    images = [Image.new("RGB", (32, 48))] if with_image else None
    response = asyncio.run(executor.execute(prompt, "3", params, 64, processor, engine, images=images))

    assert executor.reward_func.__globals__["seen"] == [([prompt + "31<eos>"], [prompt])]
    pads = response["observation_tokens"].count(processor.image_token_id)
    assert pads == (2 * 3 if with_image else 0)  # the actor's tokens have one for 16 x 16 pixels, the engine's one
    assert engine.asked[0]["prompt_token_ids"].count(processor.image_token_id) == with_image


def test_the_policys_process_loads_and_saves_the_processor(model_directory, tmp_path):
    model = Qwen3VLForConditionalGeneration.from_pretrained(model_directory)
    saved = get_tokenizer(str(model_directory), model, is_vlm=True)
    assert saved.pad_token_id == saved.tokenizer.pad_token_id == model.config.pad_token_id
    saved.save_pretrained(tmp_path)
    assert type(AutoProcessor.from_pretrained(tmp_path)) is type(saved)


def test_an_evaluation_prompt_counts_for_its_own_source():
    """Two sources ask the same question, about other images."""
    loader = [(["chart", "scene"], ["how many?"] * 2, ["1", "2"], [["a"], ["b"]], [0, 1])]
    samples = [
        SimpleNamespace(prompts=["how many?"], rewards=reward, response_length=None, truncated=None)
        for reward in (1.0, 1.0, 0.0, 1.0)
    ]
    logs = compute_eval_metrics(loader, samples, 2)
    assert (logs["eval_chart_pass1"], logs["eval_scene_pass1"]) == (1.0, 0.5)
