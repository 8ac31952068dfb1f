"""The embedded base model's training."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from astro.process import UserError
from astro.tasks.countdown.wording import vocabulary
from astro.training.train_base import pretrain
from astro.training.wordlevel import build_tokenizer

SHAPE = {"hidden": 32, "layers": 2, "heads": 2, "ffn": 48, "context": 128}
TRAINING = {"batch_size": 4, "lr": 0.001, "warmup": 2, "weight_decay": 0.1, "bf16": False, "save_every": 1}


@pytest.mark.parametrize("lr", [1e20, 1e30])
def test_a_training_that_is_not_finite_stops_and_keeps_good_checkpoints(tmp_path, lr):
    rows = np.random.default_rng(0).integers(4, 60, (60, 32)).astype(np.uint16)
    with pytest.raises(UserError, match=r"base: step \d+: .*(loss|grad_norm|not finite).*base\.training\.lr"):
        pretrain(
            rows,
            build_tokenizer(vocabulary(60), 128),
            architecture=SHAPE,
            training=TRAINING | {"lr": lr},
            seed=1,
            work=tmp_path,
            log=lambda row, step: None,
        )
    for file in tmp_path.glob("checkpoint-*/model.safetensors"):
        assert all(bool(torch.isfinite(weights).all()) for weights in load_file(file).values())
