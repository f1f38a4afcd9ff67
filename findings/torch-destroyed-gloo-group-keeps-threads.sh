#!/usr/bin/env bash
# torch 2.13.0: destroy_process_group() leaves gloo's threads running while anything still refers to the default group.
#
# Seen: of two ranks that have made one all_reduce, the process has four threads (one of Python, gloo_tcp_loop and two
# pt_gloo_runloop). After destroy_process_group() it has one again; with `group = dist.group.WORLD` still in a variable
# it keeps all four, although torch.distributed.is_initialized() is False and the name says that the group is destroyed.
# Surprising: a framework that keeps its group in a module (ring attention, tensor parallelism) leaves these threads to
# the shutdown of the interpreter. A rank was once seen to end there with "terminate called without an active exception"
# and SIGABRT, after its work was done; dropping the reference before the call is the remedy. That abort is rare and is
# not run here.
set -euo pipefail
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
python3 -m venv "$directory/venv"
"$directory/venv/bin/pip" install --quiet numpy torch==2.13.0
cat >"$directory/threads.py" <<'PYTHON'
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

kept, place = sys.argv[1] == "kept", sys.argv[2]
child = os.fork()
rank = 0 if child else 1
dist.init_process_group("gloo", init_method=f"file://{place}/{sys.argv[1]}", rank=rank, world_size=2)
group = dist.group.WORLD if kept else None
dist.all_reduce(torch.ones(3))
dist.destroy_process_group()
names = sorted((task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir())
assert not dist.is_initialized()
left = sum("gloo" in name for name in names)
if rank == 1:
    os._exit(0)
os.waitpid(child, 0)
print(f"group {sys.argv[1]}: gloo threads after destroy_process_group(): {left}", flush=True)
os._exit(left != (3 if kept else 0))
PYTHON
for case in kept dropped; do
    OMP_NUM_THREADS=1 GLOO_SOCKET_IFNAME=lo "$directory/venv/bin/python" "$directory/threads.py" "$case" "$directory"
done
