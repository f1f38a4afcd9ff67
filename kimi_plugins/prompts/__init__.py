"""From raw problems to a prompt set for RL (k1.5 §2.1): `openrlhf kimi curate`."""
