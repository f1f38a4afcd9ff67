"""The hook implementations, in the order of the report: the table of contents of the recipe.

Each class is one plugin (`--plugins kimi-policy`); `kimi` is all of them. The hooks only delegate. They run in
processes that may not have torch or DeepSpeed loaded, so what needs those is imported in the hook.
"""

from importlib import import_module

from openrlhf.plugins import hookimpl

from kimi_plugins import options


class _WithOptions:
    """A plugin with a section of options."""

    section: str

    def openrlhf_add_arguments(self, parser, command):
        if command == "train":
            options.add_arguments(parser, *options.sections(self.section))


class _Component(_WithOptions):
    """What the plugins of the recipe have in common: a section of options, and the check of it before the run."""

    def openrlhf_validate_config(self, args, command):
        if command != "train":
            return []
        return import_module(f"kimi_plugins.{self.section}.settings").problems(args)


class _OfRows(_Component):
    """A plugin that asks something of every row of the prompts; kimi-preflight, if it is there, reads them once."""

    def openrlhf_check_machine(self, args, command):
        if command != "train" or hasattr(args.kimi, Preflight.section):
            return []
        from kimi_plugins.data.training import checked

        return list(checked(args, self.row_check(args)))


class Policy(_Component):
    """§2.3.2: the mirror-descent loss, its baseline, and the optimizer reset; updates without a signal are skipped.

    K2's auxiliary SFT loss beside it.
    """

    section = "policy"
    auxiliary = None  # kimi_plugins.policy.ptx.AuxiliaryLoss, in a rank of the policy

    def openrlhf_check_machine(self, args, command):
        if command != "train":
            return []
        from kimi_plugins.preflight.auxiliary import check_auxiliary

        return list(check_auxiliary(args))

    def openrlhf_prompt_columns(self, args):
        from kimi_plugins.policy.settings import baseline_key

        key = baseline_key(args)
        return [] if key is None else [key]

    def openrlhf_group_advantages(self, rewards, experiences, args):
        from kimi_plugins.policy.batch import advantages

        return advantages(rewards, experiences, args)

    def openrlhf_policy_loss(self, args):
        from kimi_plugins.policy.mirror_descent import MirrorDescentLoss

        policy = args.kimi.policy
        return MirrorDescentLoss(
            tau=policy.tau,
            max_log_ratio=policy.max_log_ratio,
            log_ratio=policy.log_ratio,
            token_level_loss=args.actor.loss_agg_mode == "token-mean",
            importance_cap=policy.importance_cap,
            form=policy.form,
            length_normalization=policy.length_normalization,
            log_ratio_low=policy.log_ratio_low,
            log_ratio_high=policy.log_ratio_high,
        )

    def openrlhf_before_policy_update(self, actor, args):
        if args.kimi.policy.ptx_dataset is not None and self.auxiliary is None:
            from kimi_plugins.policy.ptx import load

            self.auxiliary = load(actor, args)

    def openrlhf_before_optimizer_step(self, experiences, taken, optimizer, scheduler, step, args):
        from kimi_plugins.policy.updates import before_optimizer_step

        return before_optimizer_step(experiences, taken, optimizer, scheduler, step, args, self.auxiliary)

    def openrlhf_metrics(self, experiences, step, args):
        from kimi_plugins.policy.batch import metrics

        return metrics(experiences, step, args)


class Length(_Component):
    """§2.3.3: shorter correct responses earn more than longer ones, after a warm-up; K2's token budget of a prompt."""

    section = "length"

    def openrlhf_prompt_columns(self, args):
        key = args.kimi.length.budget_key
        return [] if key is None else [key]

    def openrlhf_shape_rewards(self, experiences, step, args):
        from kimi_plugins.length.batch import add_length_rewards, penalise_over_budget

        add_length_rewards(experiences, step, args)
        penalise_over_budget(experiences, args)

    def openrlhf_metrics(self, experiences, step, args):
        from kimi_plugins.length.batch import metrics

        return metrics(experiences, step, args)


class Sampling(_OfRows):
    """§2.3.4: easy prompts before hard ones, and often failed ones more often."""

    section = "sampling"

    def row_check(self, args):
        from kimi_plugins.sampling.settings import Difficulties

        return Difficulties(args)

    def openrlhf_prompt_sampler(self, dataset, args):
        from kimi_plugins.sampling.settings import build_sampler

        return build_sampler(dataset, args)

    def openrlhf_group_scored(self, experiences, index, sampler):
        from kimi_plugins.groups import success_rate

        if hasattr(sampler, "observe") and (rate := success_rate(experiences)) is not None:  # not for uniform sampling
            sampler.observe(index, rate)

    def openrlhf_metrics(self, experiences, args):
        from kimi_plugins.groups import solved_shares, success_rates

        return solved_shares(success_rates(experiences, args.rollout.n_samples_per_prompt))


class Rewards(_OfRows):
    """§2.3.5: grading failures are not counted as wrong answers: no advantage, and the run ends if too many fail."""

    section = "rewards"

    def row_check(self, args):
        from kimi_plugins.rewards.settings import Labels

        return Labels(args)

    def openrlhf_prompt_label(self, row, label, args):
        from kimi_plugins.rewards.settings import tagged_label

        return tagged_label(row, label, args)

    def openrlhf_reward_function(self, args):
        from kimi_plugins.rewards.settings import reward_function

        return reward_function(args)

    @hookimpl(trylast=True)  # the other plugins' changes included
    def openrlhf_shape_rewards(self, experiences, args):
        from kimi_plugins.rewards.failed_grades import check, neutralise
        from kimi_plugins.rewards.metrics import add_format_rewards

        check(experiences, args.kimi.rewards.failure_limit)
        add_format_rewards(experiences, args.kimi.rewards.format_reward)
        neutralise(experiences, args)

    def openrlhf_metrics(self, experiences):
        from kimi_plugins.rewards.metrics import metrics

        return metrics(experiences)


class Vision(_OfRows):
    """§2.3.5: prompts with images fit their images; how each source fares; whether text and its image agree."""

    section = "vision"

    def row_check(self, args):
        from kimi_plugins.vision.settings import Images

        return Images(args)

    def openrlhf_group_scored(self, experiences, index, sampler, args):
        from kimi_plugins.vision.sharing import share_inputs
        from kimi_plugins.vision.tracking import TRACKER

        share_inputs(experiences)
        TRACKER.observe(experiences, index, sampler, args)

    def openrlhf_metrics(self):
        from kimi_plugins.vision.tracking import TRACKER

        return TRACKER.metrics()


class Rollout(_Component):
    """§2.6.2: a token budget per iteration; unfinished responses go on in the next one. K2's falling temperature."""

    section = "rollout"

    def openrlhf_engine_args(self, args):
        from kimi_plugins.rollout.settings import engine_args

        return engine_args(args)

    def openrlhf_rollout_temperature(self, step, args):
        from kimi_plugins.rollout.temperature import of_step

        return of_step(step, args)

    def openrlhf_samples_generator(self, kwargs, args):
        from kimi_plugins.rollout.generator import PartialSamplesGenerator

        return PartialSamplesGenerator(**kwargs) if args.kimi.rollout.segment_tokens else None

    def openrlhf_shape_rewards(self, experiences, args):
        from kimi_plugins.rollout.repetition import penalise

        penalise(experiences, args.kimi.rollout.repetition_penalty)

    def openrlhf_metrics(self, experiences, step, args):
        from kimi_plugins.rollout.gaps import gap_metrics
        from kimi_plugins.rollout.temperature import metrics

        return gap_metrics(experiences) if args.kimi.rollout.segment_tokens else metrics(step, args)


class Preflight:
    """Inputs that would fail, hang or do nothing later are refused before anything heavy starts.

    The prompts that it checks are those the trainer gets: it reads them for both.
    """

    section = "data"

    def openrlhf_add_arguments(self, parser, command):
        if command == "train":
            options.add_arguments(parser, self.section)
            options.add_cluster_arguments(parser)

    def openrlhf_validate_config(self, args, command):
        from kimi_plugins.preflight import configuration_problems, say_notes

        say_notes(args, command)
        own = list(options.invalid(args, "cluster")) if command == "train" else []
        return own + configuration_problems(args, command)

    def openrlhf_check_machine(self, args, command):
        from kimi_plugins.preflight import machine_problems

        sections = getattr(args, "kimi", None)  # the other trainers have none
        asking = [plugin for plugin in (Sampling, Rewards, Vision) if hasattr(sections, plugin.section)]
        return machine_problems(args, command, [plugin().row_check(args) for plugin in asking])

    def openrlhf_load_dataset(self, name, split, max_count, args):
        from kimi_plugins.data.training import load_for

        return load_for(name, split, max_count, args)


class Log(_WithOptions):
    """Every step's metrics, and some of its rollouts, as JSON lines next to the checkpoints."""

    section = "log"

    def openrlhf_rollouts_ready(self, experiences, step, tokenizer, args):
        from kimi_plugins import rollouts, run_log

        k, groups = args.rollout.n_samples_per_prompt, args.kimi.log.groups
        record = rollouts.record(experiences, step, tokenizer, samples_per_prompt=k, groups=groups)
        run_log.append_rollouts(args.ckpt.path, record)

    def openrlhf_log(self, logs, step, split, args):
        from kimi_plugins import run_log

        run_log.append(args.ckpt.path, split, step, logs)


class Kimi:
    """The whole recipe: a bundle of all the plugins above."""

    openrlhf_plugins = (
        "kimi-preflight",
        "kimi-policy",
        "kimi-length",
        "kimi-sampling",
        "kimi-rewards",
        "kimi-vision",
        "kimi-rollout",
        "kimi-log",
    )
