"""A tiny decoder whose responses are as long as is wanted, for the benchmark of long contexts.

Untrained models end after a few tokens or never. This one walks over classes of letters, laid down in its weights. The
prompt is of the class "start", after which comes one of three: "long" letters, which hardly ever end,
"short" ones, of which a sixty-fourth of the context follow on average, or the "loop" letter, which only repeats
itself. Which letter of the class comes next depends on all before it, by attention.
"""

import math
from pathlib import Path

import torch
from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

from kimi_plugins.quickstart.model import build_tokenizer

LETTERS = {"start": "A", "long": "abcdefghijklmnopqrstuvwx", "short": "0123456789+=", "loop": "z"}
SHARES = {"long": 0.03, "short": 0.92, "loop": 0.05}  # of the responses, but for the chance in the weights
HIDDEN, HEAD_DIM = 64, 32
CLASS_SIZE = 8.0  # of a class's coordinate of the embeddings, beside others of standard deviation 1
HEAD_STD = 0.3  # of the head's weights of those others
NEVER = -25.0  # a logit


def build(directory: Path, context: int, seed: int = 0) -> None:
    """Save the model, in float32, and its tokenizer.

    context: tokens (max_position_embeddings).
    """
    tokenizer = build_tokenizer([letter for letters in LETTERS.values() for letter in letters])
    tokenizer.model_max_length = context
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=HIDDEN,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=HEAD_DIM,
        max_position_embeddings=context,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=False,
        **ids,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config).float()
        _write_classes(model, tokenizer, context)
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _write_classes(model, tokenizer, context: int) -> None:
    """The first coordinates of the hidden states are the class of the last letter, and the head decides by them."""
    layer, classes = model.model.layers[0], len(LETTERS)
    embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
    embedding.normal_()
    embedding[:, :classes] = 0
    layer.self_attn.q_norm.weight.fill_(3.5)  # attention to few letters, however many there are
    outputs = (layer.self_attn.o_proj, layer.mlp.down_proj)
    for module in (layer.self_attn.v_proj, layer.mlp.gate_proj, layer.mlp.up_proj, *outputs):
        module.weight.normal_(std=1 / math.sqrt(module.in_features))
    for output in outputs:
        output.weight[:classes] = 0
    head.normal_(std=HEAD_STD)
    # Of a class's coordinate and of the others after the last norm, if attention and MLP add as much as there is.
    norm = math.sqrt((CLASS_SIZE**2 + 2.0 * HIDDEN) / HIDDEN)
    scale, others = CLASS_SIZE / norm, math.sqrt(2.0) / norm
    head[:, :classes] = NEVER / scale
    head[tokenizer.eos_token_id, classes:] = 0
    variance = HEAD_STD**2 * others**2 * HIDDEN  # of a letter's logit, of which the mean of exp is exp(variance / 2)
    lasts = {"long": 64 * context, "short": context / 64, "loop": math.inf}  # letters on average
    for column, (name, letters) in enumerate(LETTERS.items()):
        rows = tokenizer.convert_tokens_to_ids(list(letters))
        embedding[rows, column] = CLASS_SIZE
        if name == "start":
            for after, share in SHARES.items():
                following = tokenizer.convert_tokens_to_ids(list(LETTERS[after]))
                head[following, column] = math.log(share / len(following)) / scale
            continue
        head[rows, column] = 0
        end = math.log(len(letters)) + variance / 2 - math.log(lasts[name])
        head[tokenizer.eos_token_id, column] = max(NEVER, end) / scale
