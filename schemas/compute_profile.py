"""Contract of compute/*.yaml: the number of processes and machines for training. Results do not depend on it, so no stage
does."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.strict import Strict

AFFECTS_RESULTS = False  # it only says where training runs


class MicroBatch(Strict):
    """Sequences per forward and backward pass on one device; gradients are accumulated over the passes of a step. 0: one pass."""

    sft: int = Field(default=0, ge=0, description="rows if packed, else traces")
    grpo: int = Field(default=0, ge=0, description="completions per pass")


class Rendezvous(Strict):
    """Meeting point for the processes of several machines."""

    address: str = Field(default="", description='address of machine 0; "": taken from ASTRO_RENDEZVOUS')
    port: int = Field(default=29400, ge=1, le=65535)


class Compute(Strict):
    """A compute profile. The default is one process: the stage itself."""

    device: Literal["auto", "cpu", "gpu"] = Field(default="auto", description="auto: GPUs if there are any")
    processes: int = Field(default=1, ge=1, description="processes per machine; on GPUs one per GPU")
    machines: int = Field(default=1, ge=1, description="number of machines; they share the repository's folder")
    strategy: Literal["none", "ddp", "fsdp2", "zero3"] = Field(
        default="none",
        description=(
            "none: one process; ddp: a full copy of the model in each; fsdp2, zero3: weights, gradients and optimizer"
            " states sharded"
        ),
    )
    accelerate: str = Field(default="", description="file for `accelerate launch` (fsdp2, zero3)")
    micro_batch: MicroBatch = MicroBatch()
    rendezvous: Rendezvous = Rendezvous()

    @property
    def world(self) -> int:
        """Number of processes on all machines."""
        return self.processes * self.machines

    @model_validator(mode="after")
    def _fits(self) -> "Compute":
        sharded = self.strategy in ("fsdp2", "zero3")
        if self.strategy == "none" and self.world > 1:
            raise ValueError(
                f"strategy none is for one process, but processes * machines is {self.world}; use ddp, fsdp2 or zero3"
            )
        if sharded and self.device == "cpu":
            raise ValueError(
                f"strategy {self.strategy} needs GPUs (on a CPU accelerate silently falls back to ddp), but device "
                "is cpu; use ddp"
            )
        if sharded and not self.accelerate:
            raise ValueError(
                f"strategy {self.strategy} needs a file for `accelerate launch`; set accelerate to its path"
            )
        if self.accelerate and not sharded:
            raise ValueError(f"only fsdp2 and zero3 read accelerate, but strategy is {self.strategy}")
        return self
