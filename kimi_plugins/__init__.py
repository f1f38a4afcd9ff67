"""The Kimi k1.5 reinforcement-learning recipe (arXiv 2501.12599) as plugins of OpenRLHF."""

__version__ = "0.1.0"
