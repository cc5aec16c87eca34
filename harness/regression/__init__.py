"""The regression check: golden cases, frozen scores, and a run's table against a frozen one."""
