#!/usr/bin/env bash
# transformers 5.15.0 with torch 2.13.0: position_ids that start again separate packed samples only without a cache.
#
# Seen: two samples in one row, positions 0…5 0…5, no attention mask. With use_cache=False the logits of the second are
# those it has alone (to 1e-6). With the default, use_cache on, they are not (0.1 to 1 away): the second sample attends to the
# first, because packing is looked for only where no cache is made.
# Surprising: a forward pass for training that leaves use_cache at its default computes other numbers from the same
# input, without a warning; the cache is expected to cost memory, not to change results.
set -euo pipefail
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
python3 -m venv "$directory/venv"
"$directory/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.15.0
"$directory/venv/bin/python" - <<'PYTHON'
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

torch.manual_seed(0)
config = Qwen3Config(
    vocab_size=50,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    head_dim=16,
)
model = Qwen3ForCausalLM(config).eval()
first, second = torch.randint(0, 50, (2, 1, 6))
positions = torch.cat([torch.arange(6), torch.arange(6)])[None]
distance = {}
with torch.no_grad():
    alone = model(second).logits
    for name, chosen in (("default", {}), ("use_cache=False", {"use_cache": False})):
        packed = model(torch.cat([first, second], dim=1), position_ids=positions, **chosen).logits[:, 6:]
        distance[name] = (packed - alone).abs().max().item()
        print(f"{name}: logits of the second sample are {distance[name]:.1e} from those it has alone")
raise SystemExit(not (distance["default"] > 1e-2 and distance["use_cache=False"] < 1e-5))
PYTHON
