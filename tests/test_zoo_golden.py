"""Every network of the zoo computes what its PyTorch twin computes from the same weights, forward and backward."""

from pathlib import Path

import numpy as np
import pytest
from zoo_cases import CASES, CLASSES, Case, batch, sample, sampled, weights

import minidl.nn.functional as F
from minidl.models import InceptionOutputs, create_model
from minidl.nn import init
from minidl.tensor import Tensor

GOLDEN = np.load(Path(__file__).with_name("golden") / "zoo.npz")


def run(case, dtype):
    """The results that the golden file holds, under the same names."""
    with init.skipped():
        model = create_model(case.name, CLASSES, **case.options)
    model.load_state_dict(weights({name: value.shape for name, value in model.state_dict().items()}))
    model.to(dtype).train(case.training)
    images, labels = batch(case)
    outputs = model(Tensor(images.astype(dtype)))
    heads = outputs if isinstance(outputs, InceptionOutputs) else (outputs,)
    loss = sum(F.cross_entropy(scores, Tensor(labels)) for scores in heads)
    loss.backward()
    gradients = {name: value.grad.numpy() for name, value in model.named_parameters() if value.grad is not None}
    names = sorted(gradients)
    found = {"scores": np.stack([scores.numpy() for scores in heads]),
             "norms": np.array([np.linalg.norm(gradients[name]) for name in names])}
    found |= {f"gradient/{name}": sample(gradients[name]) for name in sampled(names)}
    if case.training:
        found["means"] = np.array([np.linalg.norm(b.numpy()) for n, b in sorted(model.named_buffers()) if "mean" in n])
    return found | {"tensors": np.array(len(model.state_dict()))}


def compare(case, dtype, tolerance):
    for key, value in run(case, dtype).items():
        expected = GOLDEN[f"{case.key()}/{key}"]
        assert value.shape == expected.shape, key
        largest = max(np.abs(expected).max(), 1e-3)  # some gradients are 0 but for rounding
        np.testing.assert_allclose(value, expected, rtol=10 * tolerance, atol=tolerance * largest, err_msg=key)


@pytest.mark.parametrize("case", [case for case in CASES if not case.slow], ids=Case.key)
def test_a_network_gives_the_scores_and_gradients_of_its_pytorch_twin(case):
    compare(case, np.float32, 2e-4 if case.training else 2e-5)  # the statistics of small batches amplify rounding


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=Case.key)
def test_every_network_gives_them_in_float64(case):
    compare(case, np.float64, 1e-6)
