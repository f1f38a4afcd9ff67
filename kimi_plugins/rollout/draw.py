"""How many prompts an iteration of partial rollouts draws."""

import math

# Share of a surplus or a shortfall that one iteration makes up for: a drawn prompt takes several to finish.
GAIN = 0.25


def to_draw(*, batch: int, surplus: int | None, first: int, held: int, limit: int) -> int:
    """How many prompts to draw at the start of an iteration, if there are any left (ours; the report has no number).

    A batch goes out, so a batch comes in; more or fewer, so that one budget most likely finishes a batch. An iteration
    that falls short has to grant few groups a second budget, which takes as long with nearly idle engines. So two
    standard deviations of a batch are to be left over.

    surplus: groups finished by the last iteration's first budget beyond the batch, negative if it fell short; None in
    the first iteration. first: to draw then. held: groups held. limit: of them.
    """
    wanted = first if surplus is None else batch + round(GAIN * (2 * math.sqrt(batch) - surplus))
    # At least what is missing to a batch, were all of them to finish.
    return max(0, min(max(wanted, batch - held), limit - held))


def to_draw_at_the_end(*, batch: int, left: int, held: int, iterations: int) -> int | None:
    """How many prompts to draw so that those left and those held end together; None earlier in the episode (ours).

    What is held when the prompts run out are the longest responses, and the last iterations would train on nothing
    else, at the lowest learning rate. So the last ones each draw an even share of the prompts that are left.

    left: prompts of this episode. held: groups. iterations: at the end of the episode that share them.
    """
    to_come = math.ceil((left + held) / batch)
    return math.ceil(left / to_come) if left and to_come <= iterations else None
