"""Networks as scikit-learn estimators: `NeuralClassifier` and `NeuralRegressor` train any minidl module by `Trainer`.

`cross_val_score`, `GridSearchCV`, `Pipeline`, `clone` and joblib take them as they take scikit-learn's own. Needs
scikit-learn: pip install 'minidl[sklearn]'. Read `train/trainer.py` for what a fit does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minidl import nn, optim, random
from minidl.data import DataLoader, TensorDataset
from minidl.tensor import Tensor, no_grad
from minidl.train import EarlyStopping, Trainer
from minidl.train.guards import evaluating

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise ImportError("minidl.sklearn needs scikit-learn 1.6 or later: pip install 'minidl[sklearn]' "
                      f"({error})") from error

__all__ = ["NeuralClassifier", "NeuralRegressor"]

ACTIVATIONS: dict[str, Callable] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "logistic": nn.Sigmoid,
                                    "gelu": nn.GELU, "identity": nn.Identity}
OPTIMIZERS: dict[str, Callable] = {"adam": optim.Adam, "adamw": optim.AdamW, "rmsprop": optim.RMSprop,
                                   "sgd": partial(optim.SGD, momentum=0.9, nesterov=True)}


class WeightedLoss:
    """The mean of `function(output, target)` over samples, each counted by its weight.

    The trainer's targets are row numbers, by which target (S, ...) and weight (S,) are looked up.
    """

    def __init__(self, function: Callable, target: np.ndarray, weight: np.ndarray):
        self.function, self.target, self.weight = function, target, weight

    def __call__(self, output: Tensor, rows: Tensor) -> Tensor:
        losses = self.function(output, Tensor(self.target[rows.array]), reduction="none")
        if losses.ndim > 1:
            losses = losses.mean(dim=tuple(range(1, losses.ndim)))
        weight = self.weight[rows.array]
        return (losses * Tensor(weight)).sum() / float(weight.sum())


class NeuralEstimator(BaseEstimator):
    """What classifier and regressor share; the parameters are explained there."""

    _loss: Callable  # of (output, target, reduction)

    def __init__(self, module: Any = (100,), *, activation: str = "relu", optimizer: Any = "adam", lr: float = 1e-3,
                 weight_decay: float = 0.0, batch_size: int = 64, max_iter: int = 200, loss: Any = None,
                 tol: float | None = 1e-4, n_iter_no_change: int = 10, early_stopping: bool = False,
                 validation_fraction: float = 0.1, warm_start: bool = False, dtype: Any = "float32",
                 random_state: Any = None, verbose: bool = False):
        self.module = module
        self.activation = activation
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.loss = loss
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def _checked(self, X: Any, y: Any = "no_validation", *, reset: bool, **options: Any) -> Any:
        """X (N, ...), and y if given, as arrays that scikit-learn finds in order."""
        return validate_data(self, X, y, reset=reset, dtype=np.dtype(self.dtype), order="C", allow_nd=True, **options)

    def _train(self, X: np.ndarray, target: np.ndarray, n_outputs: int, sample_weight: Any, *, fresh: bool,
               epochs: int | None = None) -> NeuralEstimator:
        """Train a fresh network or the present one; with `epochs`, exactly so many and with all samples."""
        if fresh:
            seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
            self._generator = np.random.default_rng(seed)
            self.n_iter_ = 0
        with random.using(self._generator):
            if fresh:
                self.module_ = self._built(X, n_outputs)
                self.optimizer_ = self._optimizer()(self.module_.named_parameters(), lr=self.lr,
                                                    weight_decay=self.weight_decay)
            X = self._inputs(X)
            loss, rows, values = self._weighted(target, sample_weight)
            validation, callbacks = None, []
            if epochs is None:
                if self.early_stopping:
                    rows, validation = self._split(X, rows, target, values)
                if self.tol is not None:
                    monitor = "validation_loss" if self.early_stopping else "loss"
                    callbacks = [EarlyStopping(monitor, self.n_iter_no_change, self.tol,
                                               restore_best=self.early_stopping)]
            trainer = Trainer(self.module_, loss, self.optimizer_)
            self.history_ = trainer.fit(
                self._loader(X[rows], values[rows]), validation, epochs or self.max_iter, callbacks,
                progress=bool(self.verbose))
        self.module_.eval()
        self.n_iter_ += len(self.history_.get("epoch", ()))
        if self.history_.interrupted:
            raise KeyboardInterrupt
        return self

    def _built(self, X: np.ndarray, n_outputs: int) -> nn.Module:
        """The network that `module` asks for, which must give (N, n_outputs) for X."""
        inputs: Any = X.shape[1] if X.ndim == 2 else X.shape[1:]
        if isinstance(self.module, nn.Module):
            network = copy.deepcopy(self.module)
        elif callable(self.module):
            network = self.module(inputs, n_outputs)
        else:
            network = self._perceptron(int(np.prod(X.shape[1:])), n_outputs, X.ndim > 2)
        name = type(self).__name__
        if not isinstance(network, nn.Module):
            raise TypeError(f"{name}: module({inputs}, {n_outputs}) returned a {type(network).__name__}, expected an "
                            "nn.Module; does the function lack its `return`?")
        self.module_ = network.to(np.dtype(self.dtype))
        with no_grad(), evaluating(network):
            shape = network(Tensor(self._inputs(X[:1]))).shape
        if shape != (1, n_outputs):
            what = "one output for each class" if isinstance(self, ClassifierMixin) else "one for each target"
            raise ValueError(f"{name}: for X of shape {X.shape} the module must give (N, {n_outputs}), {what}, but for "
                             f"N = 1 it gave {shape}; let its last layer have {n_outputs} outputs")
        return network

    def _perceptron(self, n_features: int, n_outputs: int, images: bool) -> nn.Module:
        """Dense layers of the sizes in `module`."""
        sizes = [self.module] if isinstance(self.module, (int, np.integer)) else self.module
        whole = isinstance(sizes, (tuple, list, np.ndarray)) and all(
            isinstance(size, (int, np.integer)) and not isinstance(size, bool) and size > 0 for size in sizes)
        if not whole:
            raise ValueError(f"{type(self).__name__}: module must be sizes of hidden layers such as (100,), an "
                             "nn.Module, or a function of (inputs, outputs) that returns one, got "
                             f"{self.module!r}")
        layers: list[nn.Module] = [nn.Flatten()] if images else []
        activation = _entry(self, "activation", ACTIVATIONS)
        for size in sizes:
            layers += [nn.Linear(n_features, int(size)), activation()]
            n_features = int(size)
        return nn.Sequential(*layers, nn.Linear(n_features, n_outputs))

    def _optimizer(self) -> Callable:
        return self.optimizer if callable(self.optimizer) else _entry(self, "optimizer", OPTIMIZERS)

    def _inputs(self, X: np.ndarray) -> np.ndarray:
        """X as the network's first layer takes it: whole numbers for an embedding."""
        first = next(module for module in self.module_.modules() if not any(True for _ in module.children()))
        if not first.takes_integers:
            return X
        indices = X.astype(np.int64)
        if (indices != X).any():
            raise ValueError(f"{type(self).__name__}: the network begins with {first}, which takes whole numbers, but "
                             "X holds others")
        return indices

    def _weighted(self, target: np.ndarray, sample_weight: Any) -> tuple[Callable, np.ndarray, np.ndarray]:
        """The loss, the rows that count, and what the trainer gets as target."""
        rows = np.arange(len(target))
        if sample_weight is None:
            return self.loss or self._loss, rows, target
        if self.loss is not None:
            raise ValueError(f"{type(self).__name__}: sample_weight weighs the loss of each sample, which a loss of "
                             "your own does not give; leave one of the two out")
        weight = np.asarray(sample_weight, self.dtype)
        if weight.ndim == 0:
            weight = np.full(len(target), weight)
        if weight.shape != (len(target),):
            raise ValueError(f"{type(self).__name__}: sample_weight has shape {weight.shape}, expected one weight for "
                             f"each of {len(target)} samples")
        if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
            raise ValueError(f"{type(self).__name__}: sample_weight must be finite, not negative and not all zero")
        return WeightedLoss(self._loss, target, weight), rows[weight > 0], rows

    def _split(self, X: np.ndarray, rows: np.ndarray, target: np.ndarray, values: np.ndarray) -> tuple:
        """Rows to train on, and a loader of others to validate with."""
        stratify = target[rows] if isinstance(self, ClassifierMixin) else None
        seed = int(self._generator.integers(2**31))
        rows, held = train_test_split(rows, test_size=self.validation_fraction, random_state=seed, stratify=stratify)
        return rows, DataLoader(TensorDataset(X[held], values[held]), 256)

    def _loader(self, X: np.ndarray, values: np.ndarray) -> DataLoader:
        """Shuffled batches; a last one of a single sample, which BatchNorm cannot normalise, is left out."""
        batch_size = min(int(self.batch_size), len(X))
        normalises = any(isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) for m in self.module_.modules())
        lonely = normalises and len(X) % batch_size == 1 and batch_size > 1
        return DataLoader(TensorDataset(X, values), batch_size, shuffle=True, drop_last=lonely,
                          generator=self._generator)

    def _outputs(self, X: Any) -> np.ndarray:
        """What the network gives for X: (N, outputs)."""
        check_is_fitted(self, "module_")
        X = self._checked(X, reset=False)
        return Trainer(self.module_, self._loss).predict(self._inputs(X))

    def _continues(self) -> bool:
        return self.warm_start and hasattr(self, "module_")


class NeuralClassifier(ClassifierMixin, NeuralEstimator):
    """A network that tells classes apart, with cross-entropy as its loss.

    module: sizes of hidden layers, as in scikit-learn's MLPClassifier; or a function or class that is called as
        `module(inputs, n_classes)` and returns an nn.Module, where inputs is the number of features, or for X of more
        axes (N, C, H, W) its shape (C, H, W); or an nn.Module, of which a copy is trained. It must give logits
        (N, n_classes). A network that begins with an Embedding gets X as whole numbers.
    activation: between hidden layers: relu, tanh, sigmoid, gelu or identity.
    optimizer: adam, adamw, sgd (Nesterov, momentum 0.9), rmsprop, or what is called as
        `optimizer(named_parameters, lr=lr, weight_decay=weight_decay)`.
    loss: another function of (output, target), the mean over a batch, in place of cross-entropy.
    max_iter: epochs at most. tol, n_iter_no_change: the fit ends when the training loss has not fallen by tol for so
        many epochs; tol=None runs all of them.
    early_stopping: look at the loss on a part of the samples (validation_fraction, stratified) instead, which are not
        trained on, and keep the weights of the best epoch.
    warm_start: fit goes on from where the last one ended.
    dtype: float32, or float64, which is slower.
    random_state: initialisation, order, dropout and split follow from it; minidl's own generator is not touched.
    verbose: show the Trainer's progress.

    After a fit: `module_` (the network), `optimizer_`, `classes_`, `n_features_in_` (of images: the channels),
    `history_` of the last fit, `n_iter_`. Ctrl-C ends the fit after the step under way and is raised again, so that
    a search around it ends too; `module_` holds what was learnt.
    """

    _loss = staticmethod(nn.functional.cross_entropy)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NeuralClassifier:
        """Train on X (N, ...) and labels y (N,), each sample counted by sample_weight (N,) if given."""
        fresh = not self._continues()
        X, y = self._checked(X, y, reset=fresh)
        check_classification_targets(y)
        classes = np.unique(y)
        if fresh:
            self.classes_ = classes
        elif not np.array_equal(classes, self.classes_):
            raise ValueError(f"{type(self).__name__}: warm_start goes on with the classes {self.classes_}, y has the "
                             f"classes {classes}")
        return self._train(X, self._encoded(y), len(self.classes_), sample_weight, fresh=fresh)  # type: ignore

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> NeuralClassifier:
        """One more epoch, on these samples. The first call must say all `classes`, later ones may leave them out."""
        fresh = not hasattr(self, "module_")
        if fresh and classes is None:
            raise ValueError(f"{type(self).__name__}: the first call of partial_fit must say all classes, as later "
                             "samples may bring some that these have not")
        X, y = self._checked(X, y, reset=fresh)
        check_classification_targets(y)
        if fresh:
            self.classes_ = np.unique(classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"{type(self).__name__}: classes={np.unique(classes)} are others than in the first call, "
                             f"{self.classes_}")
        return self._train(X, self._encoded(y), len(self.classes_), sample_weight,  # type: ignore[return-value]
                           fresh=fresh, epochs=1)

    def _encoded(self, y: Any) -> np.ndarray:
        """Labels as their places in `classes_`."""
        y = column_or_1d(y, warn=True)
        unknown = np.setdiff1d(y, self.classes_)
        if unknown.size:
            raise ValueError(f"{type(self).__name__}: y has labels {unknown} that are not among the classes "
                             f"{self.classes_}")
        return np.searchsorted(self.classes_, y)

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of every class (N, n_classes), in the order of `classes_`."""
        return nn.functional.softmax(Tensor(self._outputs(X)), dim=1).array

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of every sample (N,)."""
        chosen = self._outputs(X).argmax(axis=1)
        return self.classes_[chosen]


class NeuralRegressor(RegressorMixin, NeuralEstimator):
    """A network that estimates numbers, with the mean squared error as its loss.

    The parameters are those of NeuralClassifier; the network must give (N, n_targets). Targets are taken as they are:
    if their spread is far from 1, wrap the estimator in scikit-learn's TransformedTargetRegressor with a
    StandardScaler.
    """

    _loss = staticmethod(nn.functional.mse_loss)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NeuralRegressor:
        """Train on X (N, ...) and targets y (N,) or (N, n_targets), each sample counted by sample_weight if given."""
        return self._fit(X, y, sample_weight, not self._continues())

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> NeuralRegressor:
        """One more epoch, on these samples."""
        return self._fit(X, y, sample_weight, not hasattr(self, "module_"), epochs=1)

    def _fit(self, X: Any, y: Any, sample_weight: Any, fresh: bool, epochs: int | None = None) -> NeuralRegressor:
        X, y = self._checked(X, y, reset=fresh, multi_output=True, y_numeric=True)
        target = np.asarray(y, self.dtype).reshape(len(y), -1)
        if fresh:
            self._target_shape = y.shape[1:]
        elif y.shape[1:] != self._target_shape:
            raise ValueError(f"{type(self).__name__}: goes on with targets of shape {('N', *self._target_shape)}, y "
                             f"has shape {y.shape}")
        return self._train(X, target, target.shape[1], sample_weight, fresh=fresh,  # type: ignore[return-value]
                           epochs=epochs)

    def predict(self, X: Any) -> np.ndarray:
        """The estimates (N,) or (N, n_targets), as y was in `fit`, in float64 as scikit-learn's."""
        outputs = self._outputs(X).astype(np.float64)
        return outputs.reshape(len(outputs), *self._target_shape)


def _entry(estimator: NeuralEstimator, name: str, table: dict[str, Callable]) -> Callable:
    value = getattr(estimator, name)
    if not isinstance(value, str) or value not in table:
        raise ValueError(f"{type(estimator).__name__}: {name} must be one of {', '.join(table)}, got {value!r}")
    return table[value]
