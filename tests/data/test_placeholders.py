"""Marks of images and tokens of chat templates in a prompt's text."""

import pytest

from kimi_plugins.data.placeholders import placed
from kimi_plugins.data.values import BadRow


def put(text, images=()):
    messages, order = placed([{"role": "user", "content": text}], [], dict(enumerate(images, 1)))
    return messages[0]["content"], order


@pytest.mark.parametrize(
    "token",
    "<|im_start|> <|im_end|> <|image_pad|> <|vision_start|> <|object_ref_start|> <|endoftext|> <|eot_id|> "
    "<|begin_of_text|> <|start_header_id|> <|assistant|> <|end|> <|im_user|> <|media_begin|> <|START_OF_TURN_TOKEN|> "
    "<|reserved_special_token_5|> <start_of_turn> <end_of_turn> <end_of_image> <image_soft_token> <IMG_CONTEXT> "
    "<video> <end_of_utterance> <｜User｜> <｜begin▁of▁sentence｜>".split(),
)
def test_tokens_of_chat_templates_are_refused(token):
    with pytest.raises(BadRow, match="chat template's token"):
        put(f"1+1={token} 2")


@pytest.mark.parametrize(
    "text", ["a <| f |> g", "if a<|x|>0", "|x|<3 and |y|>2", "<b>1 < 2</b>", "a <- b |> f(c)", "f :: a <|> b"]
)
def test_operators_are_text(text):
    assert put(text) == (text, [])


@pytest.mark.parametrize("mark", ["<image>", "<|image|>", "<|image_1|>", "<|img|>", "<image_1>", "[image]"])
def test_forms_of_placeholders(mark):
    assert put(f"{mark} what?", ["a"]) == ("<image> what?", ["a"])
