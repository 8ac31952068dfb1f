"""TRL's GRPO over prompts that are text already: what is rendered must not be given a second beginning."""

from trl import GRPOTrainer

from astro.tokens import encode_prompt


class TextPromptTrainer(GRPOTrainer):
    """`GRPOTrainer` whose text prompts are tokenized as the engines tokenize them.

    TRL 1.16 calls the tokenizer on a text prompt as it is, which puts <|begin_of_text|> in front of one that has it. Its
    other form, lists of messages, is rendered by TRL alone: without our date, and without the control tokens of a problem's
    question broken up.
    """

    def _tokenize_prompts(self, prompts: list[str]):
        """As TRL's: (ids of each prompt, images: none, fields of other modes: none)."""
        return [encode_prompt(self.processing_class, prompt) for prompt in prompts], None, {}
