"""Join the Ray cluster that a run will use, look at it, and leave it again."""

import logging
import os
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path

from kimi_plugins.preflight import cluster, machine, nodes

SETTLE_SECONDS = 15.0  # in which a run that has just ended gives back what it used
ANSWER_SECONDS = 60  # a node's first worker process imports Ray, on a busy machine


@contextmanager
def joined() -> Iterator[str]:
    """Be a driver of the cluster; gives its address. Raises what ray.init() raises."""
    import ray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Ray's, of its own next versions; the run hears them
        ray.init(logging_level=logging.ERROR, log_to_driver=False)
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()


def living_nodes() -> dict[str, cluster.Node]:
    """{Ray's id: node}; to be called in `joined`."""
    import ray

    free = ray._private.state.available_resources_per_node()
    actors = defaultdict(list)
    for actor in ray._private.state.actors(actor_state_name="ALIVE").values():
        actors[actor["Address"]["NodeID"]].append(f"{actor['ActorClassName']} ({actor['Pid']})")
    found = {}
    for node in ray.nodes():
        if node["Alive"]:
            has, left = node["Resources"], free.get(node["NodeID"], {})
            found[node["NodeID"]] = cluster.Node(
                address=node["NodeManagerAddress"],
                gpus=has.get("GPU", 0),
                cpus=has.get("CPU", 0),
                free_gpus=left.get("GPU", 0),
                free_cpus=left.get("CPU", 0),
                accelerator=any(name.startswith("accelerator_type:") for name in has),
                actors=tuple(actors[node["NodeID"]]),
            )
    return found


def reports(found: dict[str, cluster.Node], needs: nodes.Needs) -> dict[str, dict | str]:
    """{address: nodes.report() of that node, or why there is none}; to be called in `joined`."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.cloudpickle.register_pickle_by_value(nodes)  # the package may be missing there, which is to be said
    try:
        task = ray.remote(num_cpus=0, max_retries=0)(nodes.report)
        asked = {}
        for node_id, node in found.items():
            there = NodeAffinitySchedulingStrategy(node_id, soft=False)
            ref = task.options(scheduling_strategy=there).remote(
                needs.packages, list(needs.files), needs.marker and needs.marker[0]
            )
            asked[node.address] = ref
    finally:
        ray.cloudpickle.unregister_pickle_by_value(nodes)
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_SECONDS)
    answers: dict[str, dict | str] = {}
    for address, ref in asked.items():
        try:
            answers[address] = ray.get(ref, timeout=0)
        except ray.exceptions.GetTimeoutError:
            answers[address] = f"did not answer within {ANSWER_SECONDS} s"
        except ray.exceptions.RayError as error:
            cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
            answers[address] = " ".join(str(cause).split())[:300]
    return answers


@contextmanager
def needs_of(args) -> Iterator[nodes.Needs]:
    """What the run needs on the nodes. The marker of the checkpoints' directory is there as long as this is."""
    chosen = [point.value for point in entry_points(group="openrlhf") if point.name in args.plugins]
    packages = ("openrlhf", *sorted({value.partition(":")[0].partition(".")[0] for value in chosen}))
    files = nodes.files_needed(args)
    if args.ckpt.save_steps <= 0:
        yield nodes.Needs(packages, files, None)
        return
    path = Path(args.ckpt.path)
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    with tempfile.NamedTemporaryFile(dir=existing, prefix=".seen-by-all-nodes-") as file:
        relative = os.path.join(str(existing), os.path.basename(file.name))
        yield nodes.Needs(packages, files, (relative, "ckpt.path"))


def _node_problems(found: dict[str, cluster.Node], args) -> Iterator[str]:
    with needs_of(args) as needs:
        here = nodes.report(needs.packages, list(needs.files), None)
        for address, there in reports(found, needs).items():
            if isinstance(there, str):
                yield f"{address}: the check of this node failed ({there}); see `ray status`, and restart Ray there"
            else:
                yield from nodes.differences(address, here, there, needs)


def check_cluster(args) -> Iterator[str]:
    """Room for the run, for which --wait may wait, then whether each node is as this one."""
    import ray

    if cluster.ray_address() is None or "://" in str(cluster.ray_address()):
        return
    key, fix = cluster.key_and_fix()
    try:
        with joined() as address:
            needed = machine.gpus_needed(args)

            def room() -> str | None:
                return cluster.room_problem(machine.request(args), needed, list(living_nodes().values()), address)

            settling = SETTLE_SECONDS if cluster.large_enough(needed, list(living_nodes().values())) else 0.0
            seconds = max(args.kimi.cluster.wait, settling)
            problem = cluster.wait_for_room(room, seconds, _say, time.monotonic, time.sleep)
            if problem is not None:
                yield problem
                return
            yield from _node_problems(living_nodes(), args)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        yield f"{key}: this process cannot join the Ray cluster ({' '.join(str(error).split())}); {fix}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
