"""Tasks that are not part of this project: files of the user's, and reasoning-gym. Their code runs in workers with limits."""
