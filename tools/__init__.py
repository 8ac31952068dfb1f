"""Scripts of the project that no stage runs."""
