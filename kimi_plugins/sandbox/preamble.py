# ruff: noqa
# mypy: ignore-errors
"""What solutions in LeetCode's format take for granted: the imports of its data sets.

ListNode and TreeNode are in interpreter.py.

Builtins go before these names, such as math.pow, see interpreter.run().
"""

import bisect, collections, copy, datetime, functools, heapq, itertools, json, math, operator, random, re
import string, sys
from bisect import *
from collections import *
from copy import *
from datetime import *
from functools import *
from heapq import *
from itertools import *
from math import *
from operator import *
from string import *
from typing import *

inf = float("inf")
