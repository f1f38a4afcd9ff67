#!/usr/bin/env bash
# setproctitle 1.3.8: after os.environ.clear() it does nothing, without a word, also if the same variables are set again.
#
# Seen: /proc/self/cmdline is the new title in a fresh process, and the old command line after the environment was
# cleared and filled with what it was. No exception, no return value.
# Surprising: the environment is equal before and after, and a process that starts many others, such as a fork server,
# has every reason to replace its environment as a whole; ps then shows its name for all of them. Setting only the
# variables that differ keeps the first one where it is, and titles work. Ray carries a copy of this code.
set -euo pipefail
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
python3 -m venv "$directory/venv"
"$directory/venv/bin/pip" install --quiet setproctitle==1.3.8
cat > "$directory/title.py" <<'PYTHON'
import os
import sys

import setproctitle

if sys.argv[1] == "cleared":
    variables = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
setproctitle.setproctitle("TITLE")
with open("/proc/self/cmdline") as file:
    print(file.read().rstrip("\0").split("\0")[0])
PYTHON
fresh=$("$directory/venv/bin/python" "$directory/title.py" fresh)
cleared=$("$directory/venv/bin/python" "$directory/title.py" cleared)
echo "fresh: $fresh; after clear and update: $cleared"
[[ $fresh == TITLE && $cleared != TITLE ]]
