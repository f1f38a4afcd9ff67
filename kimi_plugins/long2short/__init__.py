"""From a long thinker to a short one (k1.5 §2.4): merge, shortest samples, DPO pairs, RL, and the frontier."""
