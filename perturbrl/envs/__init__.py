"""Tasks, and the environment that joins a task with a twin."""
