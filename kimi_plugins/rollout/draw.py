"""How many prompts an iteration of partial rollouts draws; the generator and the simulator ask the same rule."""


def to_draw(*, finished: int, running: int, held: int, batch: int, in_flight: int, limit: int) -> int:
    """How many prompts to draw now, if there are any left (ours; the report gives no number).

    At the start of an iteration the groups held are filled up to in_flight. Later a prompt is drawn for every group
    that this iteration can no longer finish, while fewer than `batch` are finished or may still be. How many are drawn
    in all does not depend on which engine is faster.

    finished, running: groups held that are finished, and that still write in this iteration.
    held: all groups, with those that have spent this iteration's budget. limit: of them.
    """
    short = batch - finished - running
    return max(0, min(max(short, in_flight - held), limit - held))
