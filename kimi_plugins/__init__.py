"""The Kimi k1.5 reinforcement-learning recipe (arXiv 2501.12599) as plugins of OpenRLHF."""

from pathlib import Path

__version__ = "0.1.0"

CONFIGS = Path(__file__).parent / "configs"  # of recipes; `openrlhf train --config NAME` finds them here
