"""A symbol-level tokenizer and a decoder of 1.06 million parameters for the quickstart's arithmetic."""

import re
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from kimi_plugins.quickstart.arithmetic import ANSWER_CLOSE, ANSWER_OPEN, CHECK_OK, CHECK_WRONG, EOS

PAD, BOS, UNK = "<pad>", "<bos>", "<unk>"
SYMBOLS = [*"0123456789+=", "\n", CHECK_OK, CHECK_WRONG, ANSWER_OPEN, ANSWER_CLOSE]
CONTEXT = 256  # tokens


def build_tokenizer(symbols: list[str] = SYMBOLS) -> PreTrainedTokenizerFast:
    """One token a symbol; text made of `symbols` and the special tokens comes back from decode unchanged."""
    vocabulary = {token: i for i, token in enumerate([PAD, BOS, EOS, UNK, *symbols])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    # Longest first: " check: ok\n" must win over the "\n" in it.
    alternatives = "|".join(re.escape(symbol) for symbol in sorted(symbols, key=len, reverse=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(alternatives), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_model(
    directory: Path,
    seed: int,
    tie: bool = True,
    context: int = CONTEXT,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> None:
    """Save a randomly initialised decoder in bfloat16 with its tokenizer and generation config, ready for vLLM.

    tie: whether the output head is the embedding matrix. context: tokens. tokenizer: default: build_tokenizer's.
    """
    tokenizer = tokenizer or build_tokenizer()
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=context,
        tie_word_embeddings=tie,
        **ids,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(**ids)
    model.bfloat16().save_pretrained(directory)
    tokenizer.save_pretrained(directory)
