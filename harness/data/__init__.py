"""From a task's data source to its examples: load, split, prompt, nearest answer, packed rows."""
