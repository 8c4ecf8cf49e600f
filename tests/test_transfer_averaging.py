"""Averages of weights: moving ones, soups, BatchNorm's statistics after them, and task vectors."""

import copy
from pathlib import Path

import numpy as np
import pytest
from averaging_cases import DECAYS, SHAPES, batches, snapshots

import minidl
from minidl import nn, optim, transfer
from minidl.tensor import Tensor
from minidl.train import Trainer, WeightAveraging
from minidl.transfer import ExponentialMovingAverage, TaskVector, average, greedy_soup, task_vector, update_bn

GOLDEN = np.load(Path(__file__).parent / "golden" / "averaging.npz")
X = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)
LABELS = np.arange(12) % 4


def network(seed=0):
    minidl.seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def trained(seed=1, base=None, steps=4):
    model = copy.deepcopy(base or network())
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.05))
    data = X + np.float32(seed)
    trainer.fit((data, LABELS), epochs=steps, batch_size=6, progress=False, generator=np.random.default_rng(seed))
    return model


def bits(model):
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def put(model, weights):
    for name, array in weights.items():
        model.state_dict()[name].array[...] = array


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("buffers", ["copy", "average"])
def test_the_moving_average_is_pytorchs(decay, buffers):
    model = network()
    model[0].weight.array = np.asfortranarray(model[0].weight.array)
    ema = ExponentialMovingAverage(model, decay, buffers=buffers)
    for weights in snapshots():
        put(model, weights)
        ema.update()
    with ema.applied() as averaged:
        assert averaged is model
        for name in SHAPES:
            golden = GOLDEN[f"{decay}/{buffers == 'average'}/{name}"]
            np.testing.assert_allclose(model.state_dict()[name].numpy(), golden, rtol=1e-6, err_msg=name)


def test_warm_up_follows_its_formula():
    model = nn.Sequential(nn.Linear(1, 1, bias=False))
    ema = ExponentialMovingAverage(model, 0.3, warmup=True)
    expected = None
    for step, value in enumerate([1.0, 2.0, 4.0, 8.0, 16.0]):
        put(model, {"0.weight": value})
        ema.update()
        decay = min(0.3, (1 + step) / (10 + step))
        expected = value if expected is None else decay * expected + (1 - decay) * value
    with ema.applied():
        assert model[0].weight.item() == pytest.approx(expected, rel=1e-6)


def test_weights_are_swapped_in_and_out_bit_for_bit_even_after_an_error():
    model = network()
    ema = ExponentialMovingAverage(model, 0.9)
    with pytest.raises(RuntimeError, match="no average yet"):
        with ema.applied():
            pass
    for weights in snapshots():
        put(model, weights)
        ema.update()
    before, memory = bits(model), [parameter.array for parameter in model.parameters()]
    with ema.applied():
        inside = bits(model)
        model[0].weight.array[...] = 7  # whatever happens in here is gone afterwards
    assert bits(model) == before and inside["0.weight"] != before["0.weight"]
    with pytest.raises(ZeroDivisionError):
        with ema.applied():
            assert bits(model) == inside
            for call in (ema.update, ema.copy_to_model, ema.applied().__enter__):
                with pytest.raises(RuntimeError, match="appl"):
                    call()
            raise ZeroDivisionError
    assert bits(model) == before
    assert all(parameter.array is array for parameter, array in zip(model.parameters(), memory))
    ema.copy_to_model()
    assert bits(model) == inside
    assert all(parameter.array is array for parameter, array in zip(model.parameters(), memory))


def test_frozen_parameters_take_no_part_and_unfrozen_ones_join():
    model = network()
    transfer.freeze(model, "0")
    ema = ExponentialMovingAverage(model, 0.5, buffers="average")
    first, second, third = snapshots()[:3]
    put(model, first)
    ema.update()
    put(model, second)
    ema.update()
    frozen = bits(model)
    with ema.applied():
        assert bits(model)["0.weight"] == frozen["0.weight"] and bits(model)["1.weight"] != frozen["1.weight"]
    transfer.unfreeze(model, "0")
    ema.update()
    with ema.applied():
        assert bits(model)["0.weight"] == second["0.weight"].tobytes()
    transfer.freeze(model)
    put(model, third)
    now = bits(model)
    ema.update()
    with ema.applied():
        assert bits(model) == now
    transfer.unfreeze(model)
    ema.update()
    with ema.applied():
        assert bits(model) == now


def test_an_average_goes_on_after_saving():
    model = network()
    ema = ExponentialMovingAverage(model, 0.9)
    whole = ExponentialMovingAverage(model, 0.9)
    for number, weights in enumerate(snapshots()):
        put(model, weights)
        if number == 3:
            state = ema.state_dict()
            ema = ExponentialMovingAverage(model, 0.9)
            ema.load_state_dict(state)
        ema.update()
        whole.update()
    with whole.applied():
        expected = bits(model)
    with ema.applied():
        assert bits(model) == expected
    with pytest.raises(KeyError, match="the model has no '0.wieght'; did you mean '0.weight'"):
        ema.load_state_dict({"updates": 1, "averages": {"0.wieght": X}})
    with pytest.raises(ValueError, match=r"'0.weight' has shape \(12, 3\)"):
        ema.load_state_dict({"updates": 1, "averages": {"0.weight": X}})


def test_float16_is_averaged_in_float32():
    model = nn.Sequential(nn.Linear(1, 1, bias=False)).to(np.float16)
    ema = ExponentialMovingAverage(model, 0.999)
    put(model, {"0.weight": 1.0})
    ema.update()
    put(model, {"0.weight": 1.25})
    for _ in range(500):
        ema.update()
    with ema.applied():
        assert model[0].weight.dtype == np.float16
        assert model[0].weight.item() == pytest.approx(1.25 - 0.25 * 0.999**500, rel=1e-3)


def test_the_trainer_averages_through_a_callback():
    model, by_hand = network(), network()
    ema, other = ExponentialMovingAverage(model, 0.7), ExponentialMovingAverage(by_hand, 0.7)
    plain = trained(3, by_hand)
    twin = network()
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.05))
    trainer.fit((X + np.float32(3), LABELS), epochs=4, batch_size=6, progress=False,
                generator=np.random.default_rng(3), callbacks=[WeightAveraging(ema)])
    assert bits(model) == bits(plain)  # watching changes nothing
    assert ema.updates == 8
    optimizer = optim.Adam(by_hand.parameters(), lr=0.05)
    trainer = Trainer(by_hand, nn.CrossEntropyLoss(), optimizer)
    trainer.fit((X + np.float32(3), LABELS), epochs=4, batch_size=6, progress=False,
                generator=np.random.default_rng(3), callbacks=[WeightAveraging(other, every=3, keep=True)])
    assert other.updates == 2 and bits(by_hand) != bits(plain)
    with other.applied():
        kept = bits(by_hand)
    assert bits(by_hand) == kept
    with pytest.raises(ValueError, match="of another model"):
        trainer.fit((X, LABELS), progress=False, callbacks=[WeightAveraging(ExponentialMovingAverage(twin))])
    for arguments in ({"decay": 1.0}, {"decay": True}, {"buffers": "keep"}):
        with pytest.raises(ValueError, match="ExponentialMovingAverage: "):
            ExponentialMovingAverage(model, **arguments)
    with pytest.raises(ValueError, match="every must be"):
        WeightAveraging(ema, every=0)


def test_the_average_is_pytorchs_and_update_bn_too():
    models = []
    for weights in snapshots():
        models.append(network())
        put(models[-1], weights)
    soup = average(models)
    for name in SHAPES:
        np.testing.assert_allclose(soup.state_dict()[name].numpy(), GOLDEN[f"mean/{name}"], rtol=1e-6)
    soup.eval()
    soup[0].training = True
    soup[1].num_batches_tracked.array[...] = 5
    modes = [module.training for module in soup.modules()]
    assert update_bn(soup, [Tensor(batch) for batch in batches()]) is soup
    assert modes == [module.training for module in soup.modules()] and soup[1].momentum == 0.1
    for name, tensor in soup.named_buffers():
        np.testing.assert_allclose(tensor.numpy(), GOLDEN[f"update_bn/{name}"], rtol=2e-6)
    before = bits(soup)
    with pytest.raises(ValueError, match="update_bn: the data gave no batches"):
        update_bn(soup, [])
    with pytest.raises(ValueError, match="features"):
        update_bn(soup, [Tensor(X), Tensor(X[:, :2])])
    transfer.freeze(soup)
    update_bn(soup, X)
    assert bits(soup) == before


def test_averages_are_summed_in_float64_and_rounded_once_and_equal_tensors_keep_their_bits():
    rng = np.random.default_rng(4)
    states = [{"w": (rng.standard_normal(1000) * 10.0 ** rng.integers(-6, 6, 1000)).astype(np.float32),
               "same": np.array([-0.0, 1 / 3], np.float64), "n": np.array(number)} for number in range(7)]
    factors = [1, 2, 0, 3, 1, 5, 0.5]
    result = average(states, factors)
    exact = sum(state["w"].astype(np.longdouble) * factor for state, factor in zip(states, factors)) / 12.5
    np.testing.assert_array_equal(result["w"].numpy(), exact.astype(np.float32))
    assert result["same"].numpy().tobytes() == states[0]["same"].tobytes() and result["n"].item() == 0
    states[0]["w"][0] += 1
    assert result["w"].numpy()[0] != states[0]["w"][0]


def test_files_state_dicts_and_models_can_be_averaged(tmp_path):
    one, two = trained(1), trained(2)
    transfer.save(one, tmp_path / "one.safetensors")
    expected = bits(average([one, two]))
    from_files = average([tmp_path / "one.safetensors", two.state_dict()])
    assert {name: tensor.numpy().tobytes() for name, tensor in from_files.items()} == expected
    assert bits(average([one, tmp_path / "one.safetensors"])) == bits(one)
    fresh = transfer.rehead(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), 3)
    assert transfer.untrained(average([fresh, fresh])) == ["1.weight", "1.bias"] == transfer.untrained(fresh)


@pytest.mark.parametrize("other, error", [
    (nn.Sequential({"0": nn.Linear(3, 4), "2": nn.BatchNorm1d(4)}), "'1.weight' is missing; did you mean '2.weight'"),
    (nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5)), r"'0.weight' is float32 \(5, 3\), not float32 \(4, 3\)"),
    (network().double(), r"'0.weight' is float64"),
    (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, eps=0.1)), r"'1' is BatchNorm1d\(4, eps=0.1"),
    (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU()), "'2' is one too many"),
    (transfer.lora(network(), rank=2), "'0.lora_A.weight' is one too many"),
])
def test_networks_that_differ_are_not_averaged(other, error):
    with pytest.raises(ValueError, match=f"average: number 1 differs from number 0:\n  {error}"):
        average([network(), other])


def test_wrong_calls_of_average_are_refused():
    model = network()
    for sources, weights, error in [([], None, "no models"), ([model], [1, 2], "2 weights for 1 models"),
                                    ([model, model], [1, -1], "not negative"), ([model], [0], "not all 0")]:
        with pytest.raises(ValueError, match=error):
            average(sources, weights)
    with pytest.raises(TypeError, match="give a list of models"):
        average(model)
    with pytest.raises(TypeError, match="not a int"):
        average([model, 3])
    adapted = [transfer.lora(network(), rank=2) for _ in range(2)]
    with pytest.raises(ValueError, match="LoRA adapter.*merge"):
        average(adapted)


def test_a_greedy_soup_takes_what_helps():
    """One weight, score -(w - 3)^2: 2.5 is the best alone, 4 makes it 3.25, 1 would spoil it, 2.75 helps again."""
    candidates = [{"w": np.array([value])} for value in (1.0, 4.0, 2.5, 2.75)]
    seen = []

    def score(state):
        seen.append(state["w"].item())
        return -(seen[-1] - 3) ** 2

    soup = greedy_soup(candidates, score)
    assert soup.chosen == [3, 2] or soup.chosen[0] == 3
    best = [2.75]
    for value in (2.5, 4.0, 1.0):
        if -(np.mean([*best, value]) - 3) ** 2 >= -(np.mean(best) - 3) ** 2:
            best.append(value)
    assert soup.average["w"].item() == pytest.approx(np.mean(best)) and soup.score == -(np.mean(best) - 3) ** 2
    assert soup.scores == [-4, -1, -0.25, -0.0625] and len(seen) == 7
    models = [trained(1), trained(2)]
    soup = greedy_soup(models, lambda model: float(isinstance(model, nn.Module)))
    assert soup.chosen == [0, 1] and bits(soup.average) == bits(average(models))
    with pytest.raises(ValueError, match="score of a candidate is nan"):
        greedy_soup(candidates, lambda state: float("nan"))
    with pytest.raises(ValueError, match="differs from"):
        greedy_soup([network(), nn.Sequential(nn.Linear(3, 5))], lambda model: 1 / 0)


def test_a_task_vector_takes_the_base_to_the_fine_tuned_network_and_back():
    base = network()
    tuned, other = trained(1, base), trained(2, base)
    vector = task_vector(tuned, base)
    assert isinstance(vector, TaskVector)
    start = bits(base)
    again = bits(vector.apply(base))
    assert {name: value for name, value in again.items() if "num_batches" not in name} == {
        name: value for name, value in bits(tuned).items() if "num_batches" not in name}
    assert bits(base) == start and bits(vector.apply(base, 0.0)) == start
    w, v, u = (model[0].weight.numpy().astype(np.float64) for model in (base, tuned, other))
    vector = task_vector(tuned, base, skip="*.running_*")
    second = task_vector(other.state_dict(), base, skip="*.running_*")
    for combined, expected in [
        ((vector + second).apply(base, 0.4), w + 0.4 * ((v - w) + (u - w))),
        ((vector - second).apply(base), w + (v - u)), ((2 * vector).apply(base), w + 2 * (v - w)),
        ((vector / 4).apply(base), w + (v - w) / 4), (sum([vector, second]).apply(base), v + u - w),
    ]:
        np.testing.assert_array_equal(combined[0].weight.numpy(), expected.astype(np.float32))
    np.testing.assert_array_equal((-vector).apply(base)[0].weight.numpy(), (2 * w - v).astype(np.float32))
    assert bits((-vector).apply(base))["1.running_var"] == start["1.running_var"]
    assert (vector - vector).norm() == 0 and vector.norm() > 0
    assert "4 tensors, 24 numbers" in repr(vector)


def test_what_was_frozen_keeps_its_bits_in_task_arithmetic():
    base = network()
    base[0].bias.array[...] = [-0.0, 1e-40, 0.1, 3e38]
    tuned = copy.deepcopy(base)
    tuned[0].weight.array[...] += 0.5
    result = (3 * task_vector(tuned, base)).apply(base)
    assert bits(result)["0.bias"] == bits(base)["0.bias"]


def test_task_vectors_that_do_not_fit_are_refused():
    base, wide = network(), nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
    vector = task_vector(trained(1, base), base)
    with pytest.raises(ValueError, match=r"the fine-tuned network differs from the base:\n  '0.weight' is float32 \(5"):
        task_vector(wide, base)
    with pytest.raises(ValueError, match=r"TaskVector apply: '0.weight' has shape \(5, 3\) in the model"):
        vector.apply(wide)
    with pytest.raises(ValueError, match="the model has no '1.weight'; did you mean '2.weight'"):
        vector.apply(nn.Sequential({"0": nn.Linear(3, 4), "2": nn.BatchNorm1d(4)}))
    with pytest.raises(ValueError, match=r"TaskVector \+: the other vector has no '0.weight'"):
        vector + task_vector(base, base, skip="0.*")
    with pytest.raises(ValueError, match="skip: the pattern 'haed' matches nothing"):
        task_vector(base, base, skip="haed")
    with pytest.raises(ValueError, match="scaling must be a finite number"):
        vector.apply(base, float("nan"))
    with pytest.raises(TypeError):
        vector + 1
    with pytest.raises(TypeError):
        vector * vector
    steep = copy.deepcopy(base)
    steep[1].running_var.array[...] = 9
    with pytest.raises(ValueError, match="'1.running_var' would hold negative variances"):
        task_vector(steep, base).apply(base, -1)
    with pytest.raises(ValueError, match="merge"):
        task_vector(transfer.lora(network(), rank=2), transfer.lora(network(), rank=2))
