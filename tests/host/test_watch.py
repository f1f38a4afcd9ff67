"""What is said of a process of the run that died or raised."""

import pytest
from openrlhf.trainer.ray import watch

VALIDATION = """Traceback (most recent call last):

  File "python/ray/_raylet.pyx", line 1857, in ray._raylet.execute_task
  File "engine.py", line 12, in __init__
    config = ModelConfig(max_model_len)
             ^^^^^^^^^^^^^^^^^^^^^^^^^^
pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, max_model_len (100000) is greater than 256
    For further information visit https://errors.pydantic.dev
"""


@pytest.mark.parametrize(
    "text, said",
    [
        (
            'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\nValueError: bad\n',
            "ValueError: bad",
        ),
        ("ValueError: no traceback", "ValueError: no traceback"),
        (
            '  File "a.py", line 1, in f\nKeyError: 1\n\nDuring …\n  File "b.py", line 2, in g\nOSError: 2',
            "OSError: 2",
        ),
        ("", ""),
    ],
)
def test_the_last_exception_of_a_traceback(text, said):
    assert watch._last_exception(text) == said


def test_a_message_of_several_lines_becomes_one():
    said = watch._last_exception(VALIDATION)
    assert said.startswith(
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig Value error,"
    )
    assert "max_model_len (100000) is greater than 256" in said
    assert len(watch._last_exception(VALIDATION + "x" * 1000)) == 500


def test_a_process_that_ray_killed_for_memory():
    from ray.core.generated.common_pb2 import ActorDeathCause

    message = (
        "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 127.0.0.1) was 22.4GB "
        "/ 23.5GB (0.95), which exceeds the memory usage threshold of 0.95; Object store memory usage: [- objects …"
    )
    said = watch._reason_of_death(ActorDeathCause(oom_context={"error_message": message}))
    assert "low on memory" in said and "22.4GB / 23.5GB" in said and said.endswith("threshold of 0.95")
