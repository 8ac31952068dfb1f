"""Training: the base model, SFT and GRPO, in one process or in many."""
