"""Makes scores.npz: transferability scores of random tables by direct definitions, SciPy and scikit-learn.

LogME: the log marginal likelihood of each column as a function of log alpha and log beta, by slogdet of its N x N
covariance, maximised by Nelder-Mead from many starts. The others as loops over samples. Run where scipy and
scikit-learn are installed: python tests/golden/make_scores.py
"""

from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.stats import kendalltau, spearmanr
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression

RNG = np.random.default_rng(20)
SHAPES = {"tall": (60, 5, 3), "wide": (20, 33, 4), "duplicated": (40, 8, 2), "noise": (30, 6, 3)}  # N, F, classes


def table(name):
    count, width, classes = SHAPES[name]
    labels = np.concatenate([np.arange(classes), RNG.integers(0, classes, count - classes)])
    x = RNG.standard_normal((count, width)) + 0.3
    if name != "noise":
        x += RNG.standard_normal((classes, width))[labels] * 0.8
    if name == "duplicated":
        x[:, 1], x[:, 2] = x[:, 0], 3.0
    return x, labels


def largest_evidence(x, y):
    def negative(logs):
        if logs[1] - logs[0] > 25:  # the covariance is singular in float64
            return 1e300
        covariance = x @ x.T * np.exp(-logs[0]) + np.eye(len(y)) * np.exp(-logs[1])
        determinant = np.linalg.slogdet(covariance)[1]
        return 0.5 * (len(y) * np.log(2 * np.pi) + determinant + y @ np.linalg.solve(covariance, y))

    starts = [(a, b) for a in (-2.0, 2.0, 6.0, 30.0) for b in (0.0, 2.0, 5.0, 30.0)]
    found = [minimize(negative, start, method="Nelder-Mead", bounds=[(-40, 40), (-40, 40)],
                      options={"xatol": 1e-10, "fatol": 1e-13, "maxiter": 4000, "maxfev": 4000}).fun
             for start in starts]
    return -min(found) / len(y)


def leep(p, labels):
    joint = {(y, z): sum(p[i, z] for i in range(len(p)) if labels[i] == y) / len(p)
             for y in set(labels) for z in range(p.shape[1])}
    total = 0.0
    for i in range(len(p)):
        total += np.log(sum(joint[labels[i], z] / sum(joint[y, z] for y in set(labels)) * p[i, z]
                            for z in range(p.shape[1]) if p[i, z] > 0))
    return total / len(p)


def nce(z, y):
    total = 0.0
    for i in range(len(y)):
        same = [j for j in range(len(y)) if z[j] == z[i]]
        total += np.log(sum(y[j] == y[i] for j in same) / len(same))
    return total / len(y)


def between(x, labels):
    means = np.array([x[labels == label].mean(0) for label in labels])
    return np.cov(means, rowvar=False, bias=True)


def logistic(x, labels, l2):
    two = labels.max() == 1  # then scikit-learn has one row w, for us w / 2 and -w / 2: half the penalty
    model = LogisticRegression(C=(1 + two) / (l2 * len(x)), tol=1e-10, max_iter=100_000, solver="lbfgs").fit(x, labels)
    weight, bias = model.coef_, model.intercept_
    if two:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    scores = x @ weight.T + bias
    likelihood = scores[np.arange(len(x)), labels] - np.logaddexp.reduce(scores, axis=1)
    return -likelihood.mean() + l2 / 2 * (weight**2).sum(), model.predict_proba(x)


values = {}
for name in SHAPES:
    x, labels = table(name)
    values |= {f"{name}.x": x, f"{name}.labels": labels}
    columns = [(labels == label).astype(float) for label in range(labels.max() + 1)]
    values[f"{name}.logme"] = np.mean([largest_evidence(x, column) for column in columns])
    covariance, amount = ledoit_wolf(x)
    values[f"{name}.h_score_shrunk"] = (1 - amount) * np.trace(np.linalg.inv(covariance) @ between(x, labels))
    values[f"{name}.h_score"] = np.trace(np.linalg.pinv(np.cov(x, rowvar=False, bias=True), rcond=1e-12)
                                         @ between(x, labels))
    p = RNG.dirichlet(np.full(6, 0.4), len(x))
    p[:, 4] = 0
    p /= p.sum(1, keepdims=True)
    values |= {f"{name}.p": p, f"{name}.leep": leep(p, labels), f"{name}.nce": nce(p.argmax(1), labels)}
    values[f"{name}.logistic_loss"], values[f"{name}.logistic_p"] = logistic(x, labels, 1e-2)
targets = values["tall.x"][:, :2] @ RNG.standard_normal((2, 2)) + RNG.standard_normal((60, 2)) * 0.5 + 1.0
values["regression.targets"] = targets
values["regression.logme"] = np.mean([largest_evidence(values["tall.x"], y) for y in targets.T])
x, y = RNG.integers(0, 6, (2, 15))
values |= {"ranks.x": x, "ranks.y": x + y}
values |= {"ranks.spearman": spearmanr(x, x + y)[0], "ranks.kendall": kendalltau(x, x + y)[0]}
np.savez_compressed(Path(__file__).with_name("scores.npz"), **values)
print({key: float(value) for key, value in values.items() if np.ndim(value) == 0})
