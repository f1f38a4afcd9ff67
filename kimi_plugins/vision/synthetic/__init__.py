"""Procedural scenes with exact answers (k1.5 §2.3.5): endless, and the same for the same seed.

>>> scene = generate("counting", seed=1, index=0)
>>> scene.question, scene.answer, scene.facts
"""

import hashlib
import re
from random import Random

from kimi_plugins.vision.synthetic import charts, geometry, paths, physics, shapes
from kimi_plugins.vision.synthetic.drawing import LOOKS
from kimi_plugins.vision.synthetic.scene import Plan, Scene

TASKS = {
    "counting": shapes.counting,
    "spatial": shapes.spatial,
    "angles": geometry.angles,
    "areas": geometry.areas,
    "similar": geometry.similar,
    "bars": charts.bars,
    "line": charts.line,
    "pie": charts.pie,
    "table": charts.table,
    "lever": physics.lever,
    "gears": physics.gears,
    "bounce": physics.bounce,
    "maze": paths.maze,
    "arrows": paths.arrows,
}
SMALLEST = 112  # pixels; labels cannot be read below


CLASSES = 7  # a scene is of one class by its contents, and a seed takes scenes of one class
MOST_TRIES = 5_000


def generate(task: str, *, seed: int, index: int, difficulty: float = 0.5, size: int = 224) -> Scene:
    """The scene number `index` of a task.

    Two seeds whose remainders by CLASSES differ have no scene in common, whatever the difficulties: one is for
    training, the other held out. An answer never stands in its question.

    Args:
        task: a name of TASKS.
        seed, index: the same two give the same scene, in any order and on any machine.
        difficulty: from 0, easy, to 1.
        size: pixels of a side.

    Raises:
        ValueError: an unknown task, a difficulty outside [0, 1], or a size below SMALLEST.
    """
    if task not in TASKS:
        raise ValueError(f"task {task!r} is unknown; choose of {', '.join(TASKS)}")
    if not 0 <= difficulty <= 1:
        raise ValueError(f"difficulty is {difficulty}: it must be in [0, 1]")
    if size < SMALLEST:
        raise ValueError(f"size is {size}: labels cannot be read below {SMALLEST} pixels")
    rng = Random(f"{task}/{seed}/{index}")
    for _ in range(MOST_TRIES):
        plan = TASKS[task](rng, difficulty, size)
        told = plan.answer in re.findall(r"\w+", plan.question)
        if not told and int(identity(plan)[:8], 16) % CLASSES == seed % CLASSES:
            return Scene(plan.canvas.finished(rng.choice(LOOKS)), *plan[1:])
    raise ValueError(f"task {task!r} has no scene for seed {seed} at difficulty {difficulty}; take another seed")


def identity(scene: Scene | Plan) -> str:
    """Equal for scenes of the same contents, whatever their size and look: a digest of the question and its facts."""
    return hashlib.sha256("\n".join((scene.question, *scene.facts)).encode()).hexdigest()
