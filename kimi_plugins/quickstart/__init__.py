"""The quickstart's task: long-CoT arithmetic, a decoder small enough for two CPU cores, and its verifiable reward."""
