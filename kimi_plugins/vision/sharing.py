"""One copy of a prompt's images for all responses to it."""

import torch


def share_inputs(experiences: list) -> None:
    """Let the responses to one prompt hold the same tensors and pictures: the engines send each its own, and a
    megapixel takes 24 MB. Responses that saw other images, as an agent's may, keep theirs."""
    kept: list[tuple[dict, list | None]] = []
    for experience in experiences:
        for row, inputs in enumerate(experience.mm_train_inputs):
            if not inputs:
                continue
            same = next((other for other in kept if _equal(other[0], inputs)), None)
            if same is None:
                kept.append((inputs, experience.images[row]))
            else:
                experience.mm_train_inputs[row], experience.images[row] = same


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
