"""A vLLM engine as a run starts it, without the run."""

import ray


def start_engine(model, *, max_len: int = 96, reward=None, **engine_args):
    """OpenRLHF's actor with an engine that serves `model`; starts Ray if it is not up: call ray.shutdown() at the end.

    reward: the reward function's file.
    """
    from openrlhf.cli.train_ppo_ray import cpu_env_vars, local_cluster
    from openrlhf.trainer.ray.vllm_engine import create_vllm_engines

    if not ray.is_initialized():
        ray.init(runtime_env={"env_vars": cpu_env_vars()}, **local_cluster())
    [engine] = create_vllm_engines(
        num_engines=1,
        tensor_parallel_size=1,
        pretrain=str(model),
        seed=0,
        full_determinism=False,
        enable_prefix_caching=True,
        enforce_eager=True,
        max_model_len=max_len,
        gpu_memory_utilization=0.1,
        remote_rm_url=reward and str(reward),
        engine_args=engine_args,
    )
    return engine
