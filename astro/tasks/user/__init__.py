"""Tasks from outside this project: the user's own files, and reasoning-gym. Their code runs in workers with limits."""
