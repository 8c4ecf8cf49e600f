"""Networks as scikit-learn estimators: its own checks, searches, pipelines, and what a fit promises."""

import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl import nn, optim

pytest.importorskip("sklearn")
from joblib import parallel_config  # noqa: E402
from sklearn.datasets import load_breast_cancer  # noqa: E402
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score  # noqa: E402
from sklearn.neural_network import MLPClassifier  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from minidl.sklearn import NeuralClassifier, NeuralRegressor  # noqa: E402

# Whole batches and float64, so that a sample of weight 3 and three samples differ by rounding alone.
QUICK = dict(module=(16,), lr=0.02, batch_size=1000, max_iter=30, tol=None)
ROUNDING = {"check_sample_weight_equivalence_on_dense_data":
            "a weight and repeated samples differ by the rounding of float32, the check allows 1e-7"}


def failing(estimator):
    return ROUNDING if estimator.dtype == "float32" else {}


@parametrize_with_checks([kind(dtype=dtype, **QUICK) for kind in (NeuralClassifier, NeuralRegressor)
                          for dtype in ("float32", "float64")], expected_failed_checks=failing)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def noise(count=120, features=6, seed=0):
    data = np.random.default_rng(seed)
    return data.standard_normal((count, features)), data.integers(3, size=count)


def shapes(count=90, seed=0):
    """Bright left or right halves of images (N, 1, 8, 8)."""
    data = np.random.default_rng(seed)
    images, labels = data.standard_normal((count, 1, 8, 8)).astype(np.float32), data.integers(2, size=count)
    images[np.arange(count), 0, :, 4 * labels] += 2
    return images, np.array(["left", "right"])[labels]


def small_cnn(shape, outputs):
    return nn.Sequential(nn.Conv2d(shape[0], 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Dropout(0.2), nn.Linear(4 * 3 * 3, outputs))


class Words(nn.Module):
    """The mean of the vectors of word numbers (N, T)."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.vectors = nn.Embedding(20, 8)
        self.out = nn.Linear(8, outputs)

    def forward(self, x):
        return self.out(self.vectors(x).mean(dim=1))


def bits(estimator):
    return np.concatenate([tensor.numpy().ravel() for tensor in estimator.module_.state_dict().values()])


def cnn(**options):
    return NeuralClassifier(small_cnn, **{"lr": 0.02, "max_iter": 4, "tol": None, "random_state": 3, **options})


def test_a_search_over_networks_gives_the_same_on_processes_on_threads_and_alone():
    images, labels = shapes()
    grid = {"batch_size": [16, 64], "lr": [0.02, 1e-5]}
    alone = GridSearchCV(cnn(), grid, cv=3).fit(images, labels)
    assert alone.best_params_["lr"] == 0.02 and alone.best_score_ > 0.8
    for backend in ("loky", "threading"):
        with parallel_config(backend, n_jobs=2):
            found = GridSearchCV(cnn(), grid, cv=3).fit(images, labels)
        for key in alone.cv_results_:
            if "time" not in key:
                assert np.array_equal(found.cv_results_[key], alone.cv_results_[key]), (backend, key)
        assert np.array_equal(bits(found.best_estimator_), bits(alone.best_estimator_))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_pipeline_on_real_data_does_as_well_as_scikit_learns_network():
    X, y = load_breast_cancer(return_X_y=True)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    ours, theirs = (cross_val_score(make_pipeline(StandardScaler(), network), X, y, cv=folds).mean() for network in (
        NeuralClassifier((16,), max_iter=30, lr=0.01, random_state=0),
        MLPClassifier((16,), max_iter=30, learning_rate_init=0.01, random_state=0, tol=0, n_iter_no_change=30)))
    assert ours > 0.95 and ours > theirs - 0.015


def test_random_state_says_it_all_and_leaves_minidls_generator_alone():
    images, labels = shapes()
    minidl.seed(1)
    wanted = minidl.rand(3).tolist()
    minidl.seed(1)
    first = bits(cnn().fit(images, labels))
    assert np.array_equal(first, bits(cnn().fit(images, labels)))
    assert np.array_equal(first, bits(cnn(random_state=np.random.RandomState(3)).fit(images, labels)))
    assert minidl.rand(3).tolist() == wanted
    assert not np.array_equal(first, bits(cnn(random_state=4).fit(images, labels)))
    unset = [bits(cnn(random_state=None).fit(images, labels)) for _ in range(2)]
    assert not np.array_equal(*unset)


def test_warm_starts_and_partial_fits_go_on_where_the_last_ended_also_from_a_pickle():
    images, labels = shapes()
    whole = bits(cnn().fit(images, labels))
    warm = cnn(warm_start=True, max_iter=1).fit(images, labels)
    warm = pickle.loads(pickle.dumps(warm)).set_params(max_iter=3).fit(images, labels)
    assert np.array_equal(bits(warm), whole) and warm.n_iter_ == 4
    parts = cnn().partial_fit(images, labels, classes=["right", "left"])
    assert not np.array_equal(bits(parts), whole)
    for _ in range(3):
        parts = pickle.loads(pickle.dumps(parts)).partial_fit(images, labels)
    assert np.array_equal(bits(parts), whole) and np.array_equal(parts.predict(images), warm.predict(images))
    with pytest.raises(ValueError, match="warm_start goes on with the classes"):
        warm.fit(images, np.arange(90) % 3)
    with pytest.raises(ValueError, match="not among the classes"):
        parts.partial_fit(images, np.full(90, "middle"))


def test_early_stopping_keeps_the_best_epoch():
    X, y = noise()
    options = dict(module=(64,), lr=0.02, early_stopping=True, validation_fraction=0.3, random_state=0)
    stopped = NeuralClassifier(max_iter=100, n_iter_no_change=4, **options).fit(X, y)
    best = stopped.history_.best_epoch("validation_loss")
    assert best + 4 == stopped.n_iter_ < 100
    assert np.array_equal(bits(stopped), bits(NeuralClassifier(max_iter=best, **options).fit(X, y)))
    flat = NeuralClassifier((4,), lr=1e-9, n_iter_no_change=3, random_state=0).fit(X, y)
    assert flat.n_iter_ <= 5  # without it, the training loss decides


def test_networks_of_every_kind():
    X, y = noise()
    ready = nn.Sequential(nn.Linear(6, 3))
    before = ready[0].weight.numpy().copy()
    trained = NeuralClassifier(ready, max_iter=2, optimizer="sgd").fit(X, y)
    assert np.array_equal(ready[0].weight.numpy(), before) and trained.module_ is not ready
    words = np.random.default_rng(0).integers(20, size=(200, 5))
    spoken = NeuralClassifier(Words, lr=0.05, max_iter=40, random_state=0).fit(words, (words == 3).any(axis=1))
    assert spoken.score(words, (words == 3).any(axis=1)) > 0.9
    with pytest.raises(ValueError, match="takes whole numbers"):
        spoken.predict(words + 0.5)
    assert NeuralClassifier(8, max_iter=1).fit(*shapes()).predict_proba(shapes()[0]).shape == (90, 2)
    twice = NeuralRegressor((8,), optimizer=partial(optim.SGD, momentum=0.5), loss=nn.L1Loss(), max_iter=2)
    assert twice.fit(X, X[:, :2]).predict(X).shape == (120, 2)
    assert twice.fit(X, X[:, 0]).predict(X).shape == (120,)
    normalised = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    assert NeuralClassifier(normalised, batch_size=17, max_iter=1).fit(X, y).n_iter_ == 1  # 120 = 7 * 17 + 1


def test_weights_count_and_samples_of_weight_zero_are_not_there():
    images, labels = shapes()
    weight = np.where(np.arange(90) < 60, 1.0, 0.0)
    left_out = cnn().fit(images[:60], labels[:60], np.full(60, 2.0))
    assert np.array_equal(bits(cnn().fit(images, labels, weight)), bits(left_out))
    leaning = cnn().fit(images, labels, np.where(labels == "left", 1e-3, 1.0))
    assert leaning.predict_proba(images)[:, 1].mean() > left_out.predict_proba(images)[:, 1].mean() + 0.1


def test_ctrl_c_is_raised_again_and_what_was_learnt_is_there():
    def interrupted(output, target):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return nn.functional.cross_entropy(output, target)

    calls: list[int] = []
    network = cnn(loss=interrupted, batch_size=30)
    with pytest.raises(KeyboardInterrupt):
        network.fit(*shapes())
    assert network.n_iter_ == 1 and network.predict(shapes()[0]).shape == (90,)


@pytest.mark.parametrize("options, message", [
    (dict(module=()), None),
    (dict(module=(8, 0)), r"sizes of hidden layers such as \(100,\), an nn.Module, or a function.*got \(8, 0\)"),
    (dict(module="100"), "sizes of hidden layers"),
    (dict(module=lambda inputs, outputs: None), r"module\(6, 3\) returned a NoneType.*lack its `return`"),
    (dict(module=nn.Linear(6, 10)), r"must give \(N, 3\), one output for each class, but for N = 1 it gave \(1, 10\)"),
    (dict(activation="relu6"), "activation must be one of relu, tanh.*got 'relu6'"),
    (dict(optimizer="lbfgs"), "optimizer must be one of adam.*got 'lbfgs'"),
], ids=lambda value: str(value)[:30])
def test_errors_say_what_was_given_and_what_is_expected(options, message):
    network = NeuralClassifier(**{"max_iter": 1, **options})
    if message is None:
        assert len(list(network.fit(*noise()).module_.parameters())) == 2
        return
    with pytest.raises((ValueError, TypeError), match=message):
        network.fit(*noise())


def test_sample_weights_that_cannot_be():
    X, y = noise()
    for weight, message in ((np.ones(7), "one weight for each of 120"), (np.zeros(120), "not all zero"),
                            (-np.ones(120), "not negative")):
        with pytest.raises(ValueError, match=message):
            NeuralClassifier(max_iter=1).fit(X, y, weight)
    with pytest.raises(ValueError, match="leave one of the two out"):
        NeuralClassifier(max_iter=1, loss=nn.CrossEntropyLoss()).fit(X, y, np.ones(120))


def test_without_scikit_learn_the_extra_is_named():
    code = "import sys; sys.modules['sklearn'] = None; import minidl.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          cwd=Path(__file__).resolve().parents[1])
    assert "ImportError" in done.stderr and "pip install 'minidl[sklearn]'" in done.stderr
