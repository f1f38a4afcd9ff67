"""OpenRLHF's vLLM engines on Ray, without a trainer."""

import functools
import zlib
from collections import deque
from collections.abc import Iterable, Iterator

from kimi_plugins.completions.types import Completion, EngineOptions, Request, Sampling

RUNNING = 256  # completions in flight for each engine: what vLLM batches at most by default
HELD = 16  # times as many may wait for a slow one before them


class Engines:
    """vLLM engines that serve a model, from entering the `with` block to its end.

    images: most images in a prompt; 0 for a model without vision.
    """

    def __init__(self, options: EngineOptions, *, images: int = 0) -> None:
        if options.engines < 1:
            raise ValueError(f"engines is {options.engines}: must be ≥ 1")
        self.model, self._options, self._images = options.model, options, images
        self._engines: list = []

    def __enter__(self) -> "Engines":
        from openrlhf.trainer.ray import watch

        try:
            self._start()
        except BaseException:  # Ctrl-C too: no process is left behind
            watch.shutdown()
            raise
        return self

    def __exit__(self, *_) -> None:
        from openrlhf.trainer.ray import watch

        watch.shutdown()

    def complete(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[list[Completion]]:
        """The completions of each request, in the order of the requests; [] for a prompt that fills the context.

        Requests are read as the engines get through them.

        Raises:
            SystemExit: an engine died; the message names it, the reason and its log.
        """
        import ray
        from openrlhf.trainer.ray import watch

        requests = iter(requests)
        most = max(1, RUNNING * self._options.engines // sampling.n)
        waiting: deque = deque()  # in the order of the requests
        running: set = set()
        asked = 0
        while True:
            while len(running) < most and len(waiting) < HELD * most and (request := next(requests, None)):
                engine = self._engines[asked % len(self._engines)]
                waiting.append(engine.run.remote(answer, request=request, sampling=sampling))
                running.add(waiting[-1])
                asked += 1
            if not waiting:
                return
            if running:
                answered, rest = ray.wait(list(running), num_returns=1, timeout=watch.POLL_SECONDS)
                running = set(rest)
                if not answered:
                    watch.fail_on_dead_actor()
            while waiting and waiting[0] not in running:
                done = waiting.popleft()
                try:
                    yield ray.get(done)
                except ray.exceptions.RayError:
                    watch.get([done])  # raises what says who died

    def load(self, model: str) -> None:
        """Serve `model` from now on: another directory, of which only the weights may differ.

        Nothing may be in flight: complete() was read to its end.

        Raises:
            SystemExit: an engine could not load it; the message says why.
        """
        from openrlhf.trainer.ray import watch

        watch.get([engine.run.remote(reload, model=model) for engine in self._engines])
        self.model = model

    def _start(self) -> None:
        import ray
        import torch
        from openrlhf.cli.train_ppo_ray import cpu_env_vars, local_cluster
        from openrlhf.trainer.ray import create_vllm_engines, watch
        from openrlhf.utils.device import computes_bf16

        if not ray.is_initialized():
            ray.init(runtime_env={"env_vars": cpu_env_vars()}, log_to_driver=False, **local_cluster())
        options = self._options
        needed, there = options.engines * options.tensor_parallel_size, ray.cluster_resources().get("GPU", 0)
        if needed > there:
            raise ValueError(
                f"engines is {options.engines}: they need {needed} GPUs, and the Ray cluster has {there:g}"
            )
        on_cpu = not torch.cuda.is_available()
        memory = options.gpu_memory_utilization
        self._engines = create_vllm_engines(
            num_engines=options.engines,
            tensor_parallel_size=options.tensor_parallel_size,
            pretrain=self.model,
            seed=0,
            full_determinism=False,
            enable_prefix_caching=True,
            enforce_eager=on_cpu,
            # vLLM rewinds the seed of a prompt that is prefilled in pieces, which torch's CPU generator cannot.
            engine_args={"enable_chunked_prefill": False} if on_cpu else None,
            param_dtype="bf16" if computes_bf16() else "fp32",
            max_model_len=options.max_len,
            gpu_memory_utilization=(0.1 if on_cpu else 0.9) if memory is None else memory,
            max_images_per_prompt=self._images,
        )
        watch.get([engine.check_health.remote() for engine in self._engines])


async def answer(engine, *, request: Request, sampling: Sampling) -> list[Completion]:
    """Runs in the engine's process."""
    from openrlhf.utils.bos import begin_with_bos
    from openrlhf.utils.vlm_utils import process_prompt_with_images

    processor = _processor(engine.kwargs["model"], bool(request.images))
    text = request.prompt
    if not isinstance(text, str):
        text = processor.apply_chat_template(text, tokenize=False, add_generation_prompt=True)
    images = None
    if request.images:
        tokens, _, pictures = process_prompt_with_images(processor, text, list(request.images))
        images = {"image": pictures}
    else:
        tokens = processor(text=text, add_special_tokens=False)["input_ids"]
        if isinstance(request.prompt, str):  # else the chat template says how it begins
            tokens = begin_with_bos(processor, tokens)
    room = engine.llm.model_config.max_model_len - len(tokens)
    if room < 1:
        return []
    output = await engine.generate(tokens, _params(request, sampling, room), multi_modal_data=images)
    return [Completion(each.text, len(each.token_ids), each.finish_reason) for each in output.outputs]


async def reload(engine, *, model: str) -> None:
    """Runs in the engine's process."""
    from vllm.platforms import current_platform

    await engine.llm.collective_rpc("reload_weights", kwargs={"weights_path": model})
    if current_platform.is_cpu():
        await engine.llm.collective_rpc("_repack_output_head")  # a tied head has no tensor of its own
    if not await engine.llm.reset_prefix_cache():
        raise RuntimeError("the prefix cache could not be reset: prompts are still being answered")
    await engine.llm.reset_encoder_cache()
    engine.kwargs["model"] = model  # whose tokenizer and chat template are used


def _params(request: Request, sampling: Sampling, room: int):
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    held_to = {"choice": list(sampling.choices)} if sampling.choices else {"json": sampling.json_schema}
    return SamplingParams(
        n=sampling.n,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=min(sampling.max_new_tokens, room),
        seed=(sampling.seed + zlib.crc32(request.key.encode())) % 2**31,
        output_kind=RequestOutputKind.FINAL_ONLY,  # else the last output has only what ended last
        structured_outputs=StructuredOutputsParams(**held_to) if any(held_to.values()) else None,
    )


def tokenizer_of(model: str):
    """The model's tokenizer."""
    return _processor(model, False)


@functools.cache
def _processor(model: str, images: bool):
    from openrlhf.utils.bos import set_leading_bos
    from transformers import AutoProcessor, AutoTokenizer

    try:
        processor = (AutoProcessor if images else AutoTokenizer).from_pretrained(model, trust_remote_code=True)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{model}: is neither a model's directory nor to be had from the hub: {reason}") from error
    set_leading_bos(processor, chat_template=False)
    return processor
