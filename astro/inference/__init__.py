"""Engines that generate text: vLLM, transformers, an OpenAI-compatible endpoint, and pools of processes."""
