"""What a prompt with images becomes for the model."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class PromptInputs:
    """What the model's processor makes of a prompt with images.

    tokens: [1, n], with the images' placeholder tokens. tensors: pixel values and the like, for the trainer.
    """

    tokens: torch.Tensor
    tensors: dict[str, torch.Tensor]

    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in (self.tokens, *self.tensors.values()))
