"""Untrusted programs in bubblewrap sandboxes (k1.5 §2.6.4). docs/sandbox.md says against what they protect."""
