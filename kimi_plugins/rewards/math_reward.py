r"""The reward of mathematical answers as a file, for ``--reward.remote_url …/kimi_plugins/rewards/math_reward.py``.

With the plugin kimi-rewards, ``kimi.rewards.kind: math`` needs no file. For other settings than the defaults write:

    from kimi_plugins.rewards.math_reward import MathReward
    reward_func = MathReward(answer_pattern="####", timeout=10)
"""

from kimi_plugins import options
from kimi_plugins.grading.kinds import Settings
from kimi_plugins.rewards.mixed_reward import MixedReward


class MathReward(MixedReward):
    """settings: fields of options.MathGrader."""

    def __init__(self, **settings) -> None:
        super().__init__(Settings(math=options.MathGrader(**settings)), "math")


reward_func = MathReward()
