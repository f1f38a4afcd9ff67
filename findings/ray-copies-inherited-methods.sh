#!/usr/bin/env bash
# Ray 2.55.0: the class of an actor holds a copy of every method it inherits.
#
# Seen: @ray.remote wraps each member of the class for tracing, inherited ones too, and sets it on the decorated class,
# whether tracing is on or not. What is set on the base class afterwards is never called; the base itself is changed.
# Surprising: `class Actor(Base)` looks like ordinary inheritance, and the base is imported by the workers, where a
# plugin, a mock or a profiler patches it: without an error, and without effect in the actor. super().step() sees it.
set -euo pipefail
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
python3 -m venv "$directory/venv"
"$directory/venv/bin/pip" install --quiet ray==2.55.0
"$directory/venv/bin/python" - <<'PYTHON'
import ray


class Base:
    def step(self):
        return "original"


@ray.remote
class Actor(Base):
    def run(self):
        return self.step()


made = Actor.__ray_metadata__.modified_class  # what a worker makes an instance of
Base.step = lambda self: "patched"
called = object.__new__(made).run()
holders = [one.__name__ for one in made.__mro__ if "step" in vars(one)]
print(f"step is defined in {holders}; the actor's step after Base was patched: {called}")
raise SystemExit(called != "original" or Base().step() != "patched")
PYTHON
