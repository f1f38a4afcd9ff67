"""How prompts and responses are written for OpenRLHF's SFT and DPO trainers.

The trainers render messages with the model's chat template. Many templates drop the thinking of an assistant's
message: a model would then be trained on fragments. Where that is so, rows are written as text, already rendered.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kimi_plugins.completions.types import Request

THINKING = ("<think>", "</think>"), ("<thinking>", "</thinking>"), ("◁think▷", "◁/think▷"), ("[THINK]", "[/THINK]")
PROBES = tuple(f"{opening}\nA thought.\n{closing}\n\nThe answer." for opening, closing in THINKING)


@dataclass(frozen=True)
class Form:
    """chat: prompts that are text are a user's message. end: the model's end token, after responses that are text.

    render: the text of messages up to the response, for models whose template drops part of a response; None where
    messages stay messages. length: tokens of a text or of messages.
    """

    chat: bool
    end: str
    render: Callable[[list[dict]], str] | None = None
    length: Callable[[str | list[dict]], int] = len

    def prompt(self, request: Request) -> str | list[dict]:
        if isinstance(request.prompt, str) and not self.chat:
            return request.prompt
        messages = request.prompt
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return messages if self.render is None else self.render(messages)

    def response(self, request: Request, text: str) -> str | list[dict]:
        """After messages a message, after text the text with the model's end token."""
        if isinstance(self.prompt(request), str):
            return text + self.end
        return [{"role": "assistant", "content": text}]


def form_of(tokenizer, chat: bool) -> Form:
    """The form for a model, by its tokenizer."""
    if not tokenizer.chat_template:
        return Form(chat, tokenizer.eos_token, length=lambda text: _length(tokenizer, str(text)))

    def render(messages: list[dict]) -> str:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def length(prompt: str | list[dict]) -> int:
        if isinstance(prompt, str):
            return _length(tokenizer, prompt)
        return len(tokenizer(render(prompt), add_special_tokens=False)["input_ids"])

    whole = all(_kept_whole(tokenizer, render, probe) for probe in PROBES)
    return Form(chat, tokenizer.eos_token, None if whole else render, length)


def _length(tokenizer, text: str) -> int:
    """As the trainers tokenize a text without a chat template."""
    from openrlhf.utils.bos import begin_with_bos

    return len(begin_with_bos(tokenizer, tokenizer(text, add_special_tokens=False)["input_ids"]))


def _kept_whole(tokenizer, render: Callable[[list[dict]], str], text: str) -> bool:
    """Whether a response is whole in what the trainers cut off after the rendered prompt."""
    messages = [{"role": "user", "content": "A question?"}]
    prompt = render(messages)
    both = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": text}], tokenize=False)
    return both.startswith(prompt) and both[len(prompt) :].startswith(text)


def training_command(trainer: str, model: str, data: Path, keys: str, *, messages: bool, longest: int) -> str:
    """The command of OpenRLHF that trains on the rows of `data`.

    trainer: sft or dpo. messages: whether prompts are messages. longest: tokens of the longest row, which OpenRLHF
    would cut at 2,048 (sft) and 512 (dpo).
    """
    template = " --data.apply_chat_template" if messages else ' --data.input_template "{}"'
    return (
        f"openrlhf {trainer} --model.model_name_or_path {model} --data.dataset {data} {keys}{template} "
        f"--data.max_len {longest} --ckpt.output_dir DIR"
    )


def note(form: Form, model: str) -> str | None:
    """What has to be said about the form; None if nothing."""
    if form.render is None:
        return None
    return (
        f"The chat template of {model} drops thinking from an assistant's message. Prompts are written as text that "
        "it has rendered, so that responses stay whole: train without --data.apply_chat_template."
    )
