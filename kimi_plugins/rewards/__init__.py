"""Rewards that can be trusted (k1.5 §2.3.5, §2.6.4)."""
