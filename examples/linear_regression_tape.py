"""Two iterations of gradient descent by hand, with the tape: y = w x + b on four points (worked example W1).

The usual telling of this example goes wrong three times. It subtracts d = y - prediction although the slope has the
opposite sign, it leaves the factor x out of the slope of w, and it says the loss settles, which it does not: with
unscaled x a learning rate of 0.1 diverges. Here the engine computes each number, and least squares checks the end.
"""

# %%
import argparse

import numpy as np

import minidl
from minidl import Tensor

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="fewer steps in the last part")
quick = parser.parse_args().quick

X = np.array([50.0, 100.0, 150.0, 200.0])
Y = np.array([100.0, 200.0, 300.0, 400.0])


def loss_of(w: Tensor, b: Tensor, x: np.ndarray, y: np.ndarray) -> Tensor:
    """Half the sum of squares."""
    return (((w * x + b) - y) ** 2).sum() * 0.5


def show_tape(result: Tensor) -> None:
    """Print the recorded operations from the result back to the leaves."""
    todo, seen = [result.grad_fn], []
    while todo:
        node = todo.pop()
        if isinstance(node, Tensor) or node in seen:
            continue
        seen.append(node)
        sources = ["leaf" if isinstance(source, Tensor) else source.name for source, _ in node.inputs]
        print(f"    {node.name:8} of shape {str(node.shape):6} <- {', '.join(sources)}")
        todo += [source for source, _ in node.inputs]


# %% One point at a time, learning rate 0.1, as the example is told
w, b = minidl.tensor(0.0, dtype=float, requires_grad=True), minidl.tensor(0.0, dtype=float, requires_grad=True)
for iteration in (0, 1):
    x, y = X[iteration:iteration + 1], Y[iteration:iteration + 1]
    loss = loss_of(w, b, x, y)
    if iteration == 0:
        print("the tape of the first loss, from the result back to the leaves:")
        show_tape(loss)
    w.grad = b.grad = None
    loss.backward()
    with minidl.no_grad():
        w -= 0.1 * w.grad
        b -= 0.1 * b.grad
    print(f"iteration {iteration + 1}, point ({x[0]:.0f}, {y[0]:.0f}): loss {loss.item():,.0f}, "
          f"dL/dw {w.grad.item():,.0f}, dL/db {b.grad.item():,.0f} -> w {w.item():,.0f}, b {b.item():,.0f}")
print("it diverges: on the first point alone a step multiplies the error by 1 - 0.1 * (50^2 + 1) = -249.1")

# %% All four points: how large may the learning rate be?
design = np.stack([X, np.ones(4)], axis=1)
curvature = np.linalg.eigvalsh(design.T @ design)
print(f"\nfour points: stable below a learning rate of {2 / curvature[-1]:.2g}, "
      f"condition number {curvature[-1] / curvature[0]:.2g}")


def descend(x: np.ndarray, rate: float, steps: int) -> tuple[float, float]:
    w, b = minidl.tensor(0.0, dtype=float, requires_grad=True), minidl.tensor(0.0, dtype=float, requires_grad=True)
    for _ in range(steps):
        w.grad = b.grad = None
        loss_of(w, b, x, Y).backward()
        with minidl.no_grad():
            w -= rate * w.grad
            b -= rate * b.grad
    return w.item(), b.item()


steps = 2_000 if quick else 20_000
w_raw, b_raw = descend(X, 1e-5, steps)
print(f"raw x, rate 1e-5, {steps:,} steps: w {w_raw:.5f}, b {b_raw:.5f}: w is there at once, b lingers")

# %% The cure: standardise x, and the same learning rate of 0.1 settles
mean, spread = X.mean(), X.std()
w_std, b_std = descend((X - mean) / spread, 0.1, 200)
slope, intercept = w_std / spread, b_std - w_std * mean / spread
exact = np.linalg.lstsq(design, Y, rcond=None)[0]
print(f"standardised x, rate 0.1, 200 steps: w {slope:.6f}, b {intercept:.6f}")
print(f"least squares:                       w {exact[0]:.6f}, b {abs(exact[1]):.6f}")
assert np.allclose([slope, intercept], exact, atol=1e-6)
