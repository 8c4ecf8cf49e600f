"""Structure transfer: the architecture as JSON, rebuilt with fresh weights, whole or in part (listings L14, L15).

The original asked for layer "0" by name, which raises, never used what it would have got, and typed the network again:
training from scratch under another name. Here the structure travels as JSON, the rebuilt network is shown to be equal
in structure and different in weights, and a third way carries the first block's weights along.
"""

# %%
import argparse
import json

import numpy as np

import minidl
from minidl import nn, optim, transfer
from minidl.data import fashion_mnist, mnist
from minidl.models import mnist_cnn
from minidl.train import Trainer, accuracy

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="fewer images and epochs")
parser.add_argument("--labels", type=int, default=1000)
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()
minidl.seed(options.seed)


def train(model: nn.Module, data, epochs: int, label: str) -> nn.Module:
    optimizer = optim.Adam(model.named_parameters(), lr=1e-3)
    Trainer(model, nn.CrossEntropyLoss(), optimizer, metrics=[accuracy]).fit(
        data, epochs=epochs, batch_size=64, label=label)
    return model


def accuracy_of(model: nn.Module, data) -> float:
    return Trainer(model, nn.CrossEntropyLoss(), metrics=[accuracy]).evaluate(data, batch_size=500)["accuracy"]


# %% The source, trained on digits
digits = mnist("train", subset=2000 if options.quick else None)
source = train(mnist_cnn(num_classes=10), digits, 1 if options.quick else 3, "MNIST")

# %% Its structure, as text that could be sent anywhere
text = json.dumps(transfer.structure(source), indent=2)
print(text[:400], "…")
rebuilt = transfer.build(text)
assert transfer.structure(rebuilt) == transfer.structure(source)
different = [name for name, tensor in rebuilt.state_dict().items()
             if not np.array_equal(tensor.numpy(), source.state_dict()[name].numpy())]
print(f"equal structure, {len(different)} of {len(source.state_dict())} tensors differ")

# %% Structure and the first block's weights: declared by name, everything else refused
state = {name: tensor for name, tensor in source.state_dict().items() if name.startswith("features.conv1.")}
partial = transfer.build(text)
left_out = partial.load_state_dict(state, strict=False)
print(f"carried {sorted(state)}, left fresh {left_out.missing_keys}")

# %% The same few labels for all
clothes = fashion_mnist("train").balanced(options.labels, np.random.default_rng(options.seed))
clothes_test = fashion_mnist("test")
epochs = 3 if options.quick else 20
for name, model in {
    "structure alone (fresh weights)": rebuilt,
    "structure and first block": partial,
    "all weights, new head": transfer.rehead(source, 10),
}.items():
    train(model, clothes, epochs, name)
    print(f"{name}: {accuracy_of(model, clothes_test):.2%}")
