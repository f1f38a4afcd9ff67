"""A reward model that is asked where rules cannot decide (k1.5 §2.3.5). docs/judges.md."""
