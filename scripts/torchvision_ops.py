"""Lets torchvision be imported beside a torch it was not built for. scripts/setup_env.py copies it into .venv.

PyPI's torchvision is made for PyPI's CUDA torch. Beside a CPU build its compiled operations cannot be loaded, and its
import fails where it registers rules for two of them. With their schemas defined the rest of torchvision works (image
transforms are plain torch); calling the two is an error as before. Where the operations load, nothing is done.

Python runs this at every start of an interpreter, in all processes of a run, so it imports nothing by itself.
"""

import sys

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
FIRST_TO_FAIL = "torchvision._meta_registrations"  # imported once torchvision has tried to load its operations


class DefineMissing:
    """On the way of imports, without finding any module itself."""

    library = None  # the schemas live as long as this

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == FIRST_TO_FAIL:
            import torch

            cls.library = torch.library.Library("torchvision", "FRAGMENT")
            for operation in ("nms", "qnms"):
                if not hasattr(torch.ops.torchvision, operation):
                    cls.library.define(operation + SCHEMA)
        return None


sys.meta_path.insert(0, DefineMissing)
