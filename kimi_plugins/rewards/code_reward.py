"""The reward of programs as a file, for ``--reward.remote_url …/kimi_plugins/rewards/code_reward.py``.

With the plugin kimi-rewards, ``kimi.rewards.kind: code`` needs no file.
KIMI_SANDBOX_WORKERS: programs at a time in this process, one a core by default; every engine has its own.
"""

import os

from kimi_plugins import options
from kimi_plugins.grading.kinds import Settings
from kimi_plugins.rewards.mixed_reward import MixedReward

_workers = int(os.environ.get("KIMI_SANDBOX_WORKERS", "0")) or None
reward_func = MixedReward(Settings(code=options.CodeGrader(workers=_workers)), "code")
