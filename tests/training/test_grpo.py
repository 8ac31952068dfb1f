"""GRPO for real, a few steps on a tiny model: seeded samples, going on after a kill, TRL's losses, restarts."""

import pytest
import torch
from safetensors.torch import load_file

from astro.process import UserError
from astro.training import grpo, trl_overrides
from astro.training.seeded_sampling import OwnNoise, sample_seed
from astro.training.trl_overrides import SeededClient, SeededLlm
from tests.training.grpo_world import PROBLEMS, UNEVEN, HalfKnown, run, tiny


def weights(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def equal(one, other):
    return all(torch.equal(p, other[name]) for name, p in one.items())


@pytest.fixture(scope="module")
def uncut(tmp_path_factory):
    """(weights, curve) of four steps."""
    trainer, curve = run(tmp_path_factory.mktemp("uncut"))
    return weights(trainer), curve


def test_it_learns_from_rewards_that_differ(uncut):
    """Else the other tests here would compare nothing."""
    after, curve = uncut
    assert [row["step"] for row in curve] == [1, 2, 3, 4]
    assert all(row["zero_variance"] < 1 for row in curve)
    assert not equal(after, dict(tiny()[0].named_parameters()))


def test_a_run_that_was_cut_goes_on_to_the_same_curve(uncut, tmp_path):
    run(tmp_path)
    (tmp_path / "checkpoint-4" / "trainer_state.json").unlink()  # killed while it was written
    seen = []
    trainer, curve = run(tmp_path, log=lambda row, step: seen.append(step))
    assert seen[0] == 3
    assert curve == uncut[1]
    assert equal(weights(trainer), uncut[0])


def test_seeded_samples_do_not_depend_on_the_micro_batch(uncut, tmp_path):
    _, curve = run(tmp_path, micro_batch=16)
    assert [row["length"] for row in curve] == [row["length"] for row in uncut[1]]
    assert [row["loss"] for row in curve] == pytest.approx([row["loss"] for row in uncut[1]], abs=1e-5)


@pytest.mark.parametrize("seeded", [False, True])
@pytest.mark.parametrize("lr", [1e20, 1e30])
def test_a_training_that_is_not_finite_stops_and_keeps_good_checkpoints(tmp_path, lr, seeded):
    """One that samples from the model's own probabilities fails in the sampling, before there is a loss."""
    with pytest.raises(UserError, match=r"grpo: step \d+: .*(loss|grad_norm|not finite).*grpo\.lr"):
        run(tmp_path, lr=lr, seeded=seeded, save_every=1, steps=6)
    for file in tmp_path.glob("checkpoint-*/model.safetensors"):
        assert all(bool(torch.isfinite(weights).all()) for weights in load_file(file).values())


LOSSES = [
    {"loss_type": "grpo"},
    {"loss_type": "grpo", "importance_level": "sequence", "epsilon": 0.0003, "epsilon_high": 0.0004},  # GSPO
    {"loss_type": "dr_grpo", "scale_rewards": "none"},
    {"loss_type": "bnpo", "delta": 4.0},
    {"loss_type": "dapo", "epsilon_high": 0.28, "top_entropy": 0.2},
    {"loss_type": "cispo", "epsilon_high": 5.0},
    {"loss_type": "sapo"},
    {"loss_type": "luspo", "importance_level": "sequence"},
    {"loss_type": "vespo"},
]


@pytest.fixture(scope="module")
def by_loss(tmp_path_factory):
    """Weights after two steps on the same completions, by loss."""
    made = []
    for i, changes in enumerate(LOSSES):
        model, tokenizer = tiny()
        model.generation_config.eos_token_id = list(range(3, 15))  # as chat models, it has several ends; lengths vary
        trainer, curve = run(
            tmp_path_factory.mktemp(f"loss{i}"),
            model=model,
            tokenizer=tokenizer,
            steps=2,
            num_iterations=2,
            prompts_per_step=2,
            max_completion_length=12,
            save_every=100,
            **changes,
        )
        assert trainer.loss_type == changes["loss_type"]
        made.append((weights(trainer), curve))
    return made


@pytest.mark.parametrize("number", range(len(LOSSES)), ids=lambda i: f"{i}-{LOSSES[i]['loss_type']}")
def test_every_loss_trains_and_is_another_one(by_loss, number):
    after, curve = by_loss[number]
    assert not equal(after, dict(tiny()[0].named_parameters()))
    assert all(not torch.isnan(p).any() for p in after.values())
    assert 0 < curve[0]["truncated"] < 1
    assert curve[0]["reward"] == by_loss[0][1][0]["reward"]  # the same completions
    assert "reward" not in curve[1]  # the second step reuses them: nothing was sampled
    assert not any(equal(after, other) for i, (other, _) in enumerate(by_loss) if i != number)


def test_truncated_completions_give_no_gradient(tmp_path):
    """Completions of one token that do not end: nothing is left to learn from."""
    before = dict(tiny()[0].named_parameters())
    masked, curve = run(tmp_path / "masked", steps=1, prompts_per_step=2, max_completion_length=1, mask_truncated=True)
    plain, same = run(tmp_path / "plain", steps=1, prompts_per_step=2, max_completion_length=1)
    assert curve[0]["truncated"] == same[0]["truncated"] == 1.0
    assert curve[0]["reward_std"] == same[0]["reward_std"] > 0
    assert equal(weights(masked), before)
    assert not equal(weights(plain), before)


def test_restarts_are_graded_whole_and_told_apart(tmp_path):
    """A prefix that alone adds up to an odd sum turns the verdict of what follows around."""
    begun = [(problem, "3 + 8 = 11 left 1 11\n") for problem in PROBLEMS]
    asked = []
    trainer, curve = run(tmp_path, restarts=begun, steps=2, log=lambda row, step: asked.append(row))
    for row in curve:
        assert 0 < row["restarts"] < 1
        mixed = row["restarts"] * row["reward_restarted"] + (1 - row["restarts"]) * row["reward_fresh"]
        assert mixed == pytest.approx(row["reward"], abs=1e-6)
    rows = trainer.train_dataset
    assert sorted({row["prefix"] for row in rows}) == ["", begun[0][1]]
    assert all(row["prompt"].endswith("\n" + row["prefix"]) for row in rows)


def test_a_prompt_must_fit_a_step(tmp_path):
    with pytest.raises(ValueError, match=r"12 problems .* prompts_per_step 100"):
        run(tmp_path, prompts_per_step=100)


def test_completions_that_cannot_be_shared_out_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"prompts_per_step \* group_size: a batch of 16"):
        run(tmp_path, micro_batch=5)


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_a_seed_depends_on_all_that_a_completion_does():
    seeds = [
        sample_seed(*parts)
        for parts in [(1, 0, [5], 0), (2, 0, [5], 0), (1, 1, [5], 0), (1, 0, [6], 0), (1, 0, [5], 1)]
    ]
    assert len(set(seeds)) == 5
    assert all(0 <= seed < 2**62 for seed in seeds)
    assert sample_seed(1, 0, [5], 0) == seeds[0]


def test_noise_draws_by_the_models_probabilities_whatever_the_batch():
    scores = torch.log(torch.tensor([[0.5, 0.3, 0.2]]))
    rows = 4000
    drawn = OwnNoise(range(rows), 1.0, torch.device("cpu"))(None, scores.repeat(rows, 1))
    assert torch.isfinite(drawn).sum(-1).eq(1).all()
    shares = torch.isfinite(drawn).float().mean(0)
    assert torch.allclose(shares, scores.exp()[0], atol=0.03)
    alone = OwnNoise([7], 1.0, torch.device("cpu"))(None, scores)
    assert torch.equal(alone[0], drawn[7])
    cold = OwnNoise(range(200), 0.01, torch.device("cpu"))(None, scores.repeat(200, 1))
    assert torch.isfinite(cold)[:, 0].all()


class Trainer:
    """What the seeded vLLM backends read of a trainer: rank 1 of 2, step 3."""

    class accelerator:
        process_index = 1

    class state:
        global_step = 3

    run_seed, num_generations, vllm_tensor_parallel_size = 9, 4, 1

    def seeds(self, prompts, first):
        return [sample_seed(self.run_seed, 3, ids, (first + i) % self.num_generations) for i, ids in enumerate(prompts)]

    def seeds_of_requests(self, prompts):
        return [sample_seed(self.run_seed, 3, ids, 0) for ids in prompts]


def test_vllm_in_the_process_gets_a_seed_for_each_completion():
    class Params:
        seed = None

        def clone(self):
            return Params()

    class Llm:
        name = "llm"

        def generate(self, prompts, *, sampling_params, use_tqdm):
            return [params.seed for params in sampling_params]

    llm = SeededLlm(Llm(), Trainer())
    prompts = [{"prompt_token_ids": [1, 2]}] * 2 + [{"prompt_token_ids": [3]}] * 4
    got = llm.generate(prompts, sampling_params=Params(), use_tqdm=False)
    # the six stand at 6..11 of the step's batch
    assert got == [
        sample_seed(9, 3, p["prompt_token_ids"], n) for p, n in zip(prompts, [2, 3, 0, 1, 2, 3], strict=True)
    ]
    assert llm.name == "llm"


def test_a_vllm_server_gets_a_seed_for_each_prompt_and_answers_stay_in_order():
    class Client:
        def generate(self, prompts, n, generation_kwargs, temperature):
            (ids,) = prompts
            return {"prompt_ids": [ids], "completion_ids": [[generation_kwargs["seed"], i] for i in range(n)]}

    prompts = [[i] for i in range(80)]
    answer = SeededClient(Client(), Trainer()).generate(prompts, n=2, generation_kwargs={"seed": 0}, temperature=1.0)
    assert answer["prompt_ids"] == prompts
    assert answer["completion_ids"] == [[sample_seed(9, 3, ids, 0), i] for ids in prompts for i in (0, 1)]


OWN = ("_compute_loss", "_prepare_inputs", "_get_per_token_logps_and_entropies")


@pytest.mark.parametrize("loss", ["dapo", "cispo", "vespo", "grpo"])
def test_completions_without_a_gradient_and_padding_cost_nothing_and_the_weights_are_the_same(
    tmp_path, monkeypatch, loss
):
    from trl import GRPOTrainer

    start = dict(tiny()[0].named_parameters())
    found, positions = [], []
    plain = GRPOTrainer._get_per_token_logps_and_entropies

    def counted(self, model, ids, *args, **options):
        positions[-1] += ids.numel()
        return plain(self, model, ids, *args, **options)

    monkeypatch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", counted)
    for ours in (True, False):
        trainer_class = trl_overrides.rollouts_trainer()
        for name in () if ours else OWN:
            setattr(trainer_class, name, getattr(GRPOTrainer, name))
        monkeypatch.setattr(grpo, "rollouts_trainer", lambda made=trainer_class: made)
        positions.append(0)
        trainer, curve = run(tmp_path / str(ours), task=HalfKnown(), loss_type=loss, **UNEVEN, steps=3, save_every=100)
        assert all(row["zero_variance"] > 0 for row in curve)
        found.append(weights(trainer))
    # AdamW moves a weight whose gradient is rounding by up to lr, so single weights may differ
    assert all(float((value - found[1][name]).abs().mean()) < 1e-6 for name, value in found[0].items())
    moved = [float((value - start[name].detach()).abs().mean()) for name, value in found[0].items()]
    assert min(moved) > 1e-4
    assert positions[0] < positions[1]


def test_the_passes_of_a_step_hold_completions_of_similar_length_and_those_without_a_gradient_come_last():
    lengths, advantages = [7, 1, 5, 3, 2, 6, 0, 4], [1.0, -1.0, 0.0, 2.0, 0.0, 1.0, 3.0, 1.0]
    mask = torch.tensor([[1] * n + [0] * (7 - n) for n in lengths])
    step = {"completion_mask": mask, "advantages": torch.tensor(advantages), "num_items_in_batch": torch.tensor(24)}
    split = {name: value.split(2) if value.dim() else [value] * 4 for name, value in step.items()}
    got = trl_overrides.by_length([{name: parts[i] for name, parts in split.items()} for i in range(4)])
    assert [one["completion_mask"].sum(1).tolist() for one in got] == [[7, 6], [4, 3], [1, 0], [0, 0]]
    assert [one["advantages"].tolist() for one in got] == [[1.0, 1.0], [1.0, 2.0], [-1.0, 0.0], [0.0, 3.0]]
    assert [int(one["num_items_in_batch"]) for one in got] == [24] * 4


@pytest.mark.parametrize("at_once", [None, 2])
def test_log_probabilities_without_the_common_padding_are_those_of_trl(tmp_path, at_once):
    from trl import GRPOTrainer

    trainer, _ = run(tmp_path, steps=1)
    lengths, longest = [4, 9, 0, 2, 6], 12
    completion = torch.tensor([[1] * n + [0] * (longest - n) for n in lengths])
    mask = torch.cat([torch.tensor([[0, 1, 1]] * 5), completion], 1)
    ids = torch.randint(5, 9, mask.shape, generator=torch.Generator().manual_seed(0))
    asked = (trainer.model, ids, mask, longest, at_once)
    with torch.no_grad():
        got = trainer._get_per_token_logps_and_entropies(*asked, compute_entropy=True)
        expected = GRPOTrainer._get_per_token_logps_and_entropies(trainer, *asked, compute_entropy=True)
    assert got[0].shape == (5, longest)
    for mine, trls in zip(got[:2], expected[:2], strict=True):
        assert torch.allclose(mine * completion, trls * completion, atol=1e-5)
