"""A Qwen3-VL of 1.6 million parameters that vLLM's CPU engine and the actor both run, with its processor."""

from pathlib import Path

import torch
from transformers import GenerationConfig, Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

from kimi_plugins.quickstart.model import build_tokenizer

USER, ASSISTANT = "<user>", "<assistant>"
VISION_START, VISION_END, IMAGE, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    f"{{% if part.type == 'image' %}}{VISION_START}{IMAGE}{VISION_END}{{% else %}}{{{{ part.text }}}}{{% endif %}}"
    "{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
PATCH, MERGE = 8, 2  # pixels, and patches a side: one image token for 16 x 16 pixels
LARGEST_IMAGE = 128  # pixels a side
CONTEXT = 256  # tokens
HIDDEN, HEADS, HEAD_DIM, LAYERS = 128, 2, 64, 2  # of both towers


def build_processor(symbols: list[str]) -> Qwen3VLProcessor:
    """One token for each of `symbols`, and for 16 x 16 pixels of an image."""
    tokenizer = build_tokenizer([USER, ASSISTANT, VISION_START, VISION_END, IMAGE, VIDEO, *symbols])
    sizes = {"shortest_edge": (PATCH * MERGE) ** 2, "longest_edge": LARGEST_IMAGE**2}  # pixels an image
    images = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": 2, "size": sizes}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**images),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(**images),
        chat_template=CHAT_TEMPLATE,
    )


def build_model(directory: Path, symbols: list[str], seed: int) -> None:
    """Save a randomly initialised model in bfloat16 with its processor, ready for vLLM and `openrlhf train`."""
    processor = build_processor(symbols)
    tokenizer = processor.tokenizer
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = Qwen3VLConfig(
        text_config={
            "architectures": ["Qwen3ForCausalLM"],  # vLLM looks for it here
            "vocab_size": len(tokenizer),
            "hidden_size": HIDDEN,
            "intermediate_size": 3 * HIDDEN,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "head_dim": HEAD_DIM,
            "max_position_embeddings": CONTEXT,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [12, 10, 10],  # of time, height and width: half of HEAD_DIM
                "mrope_interleaved": True,
            },
            **ids,
        },
        vision_config={
            "depth": LAYERS,
            "hidden_size": HIDDEN,
            "intermediate_size": 4 * HIDDEN,
            "num_heads": HEADS,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "out_hidden_size": HIDDEN,
            "num_position_embeddings": (LARGEST_IMAGE // PATCH) ** 2,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=processor.image_token_id,
        video_token_id=processor.video_token_id,
        vision_start_token_id=processor.vision_start_token_id,
        vision_end_token_id=processor.vision_end_token_id,
        **ids,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(**ids)
    model.bfloat16().save_pretrained(directory)
    processor.save_pretrained(directory)
