import os
import signal

# Before torch is imported: tests reach no model hub, and two cores are shared by several processes.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Tests started in the background of a script ignore Ctrl-C, and so would the processes they send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Modules that start the stack come first, then the slow ones: what is short fills up the workers at the end."""
    rank = {}
    for item in items:
        marks = [name for name in ("stack", "slow") if item.get_closest_marker(name)]
        rank[item.path] = min(rank.get(item.path, 2), {"stack": 0, "slow": 1}[marks[0]] if marks else 2)
    items.sort(key=lambda item: rank[item.path])
