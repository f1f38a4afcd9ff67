r"""The reward of answers that rules or else a judge grade, as a file for ``--reward.remote_url``.

With the plugin kimi-rewards, ``kimi.rewards.kind: judge`` needs no file. It asks the server that ``openrlhf kimi
judge-serve`` starts on this machine; for other settings than the defaults write:

    from kimi_plugins.rewards.judge_reward import JudgeReward
    reward_func = JudgeReward(url="http://judges:8100/v1", request_timeout=120)
"""

from dataclasses import fields

from kimi_plugins import options
from kimi_plugins.grading.kinds import Settings
from kimi_plugins.rewards.mixed_reward import MixedReward


class JudgeReward(MixedReward):
    """settings: fields of options.Judge and options.MathGrader."""

    def __init__(self, **settings) -> None:
        judge = {entry.name: settings.pop(entry.name) for entry in fields(options.Judge) if entry.name in settings}
        rules = options.MathGrader(**settings)
        super().__init__(Settings(judge=options.Judge(**judge), math=rules), "judge")


reward_func = JudgeReward()
