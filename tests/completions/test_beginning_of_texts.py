"""Texts begin with BOS where the model's tokenizer says so, as in training; a chat template says it by itself."""

import asyncio
from types import SimpleNamespace

import pytest
from tokenizers import processors

from kimi_plugins.completions import engines
from kimi_plugins.completions.forms import form_of
from kimi_plugins.completions.types import Request
from kimi_plugins.quickstart.model import build_tokenizer

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.fixture(params=[True, False])
def model(request, tmp_path, monkeypatch):
    """(directory, whether its tokenizer adds a BOS)"""
    tokenizer = build_tokenizer()
    bos = (tokenizer.bos_token, tokenizer.bos_token_id)
    if request.param:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos[0]} $A", special_tokens=[bos]
        )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr(engines, "_params", lambda *_: None)
    return str(tmp_path), request.param


def prompt_of(prompt, model):
    """The tokens that the engine is given."""
    given = []

    async def generate(tokens, params, multi_modal_data):
        given.extend(tokens)
        return SimpleNamespace(outputs=[])

    llm = SimpleNamespace(model_config=SimpleNamespace(max_model_len=64))
    engine = SimpleNamespace(kwargs={"model": model}, llm=llm, generate=generate)
    asyncio.run(engines.answer(engine, request=Request("1", prompt, ()), sampling=None))
    return given


def test_a_text_begins_with_bos_and_messages_as_their_template_has_it(model):
    directory, adds_bos = model
    tokenizer = engines.tokenizer_of(directory)
    text = tokenizer("12+34=", add_special_tokens=False)["input_ids"]
    assert prompt_of("12+34=", directory) == [tokenizer.bos_token_id] * adds_bos + text
    assert prompt_of([{"role": "user", "content": "12+34="}], directory) == text
    form = form_of(tokenizer, chat=False)
    assert form.length("12+34=") == len(text) + adds_bos
    assert form.length([{"role": "user", "content": "12+34="}]) == len(text)
