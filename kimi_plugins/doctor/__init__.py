"""What of a machine would make a run fail: checks.py judges facts, facts.py collects them (`openrlhf kimi doctor`)."""
