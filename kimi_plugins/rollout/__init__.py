"""Partial rollouts (k1.5 §2.6.2): a token budget per iteration; what is unfinished goes on in the next one."""
