"""Make zoo.npz: scores and gradients of PyTorch twins of the zoo's networks, written from the papers.

Run with PyTorch 2.13 installed: `python tests/golden/make_zoo.py`. tests/test_zoo_golden.py only reads the file.
The twins have torchvision's names for parameters (timm's for EfficientNet-Lite0, Idelbayev's for CIFAR's ResNets).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from zoo_cases import CASES, CLASSES, batch, sample, sampled, weights  # noqa: E402


class Net(nn.Module):
    """Named layers with a forward function, so that a network is one expression."""

    def __init__(self, layers, run):
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.run = run

    def forward(self, x):
        return self.run(self, x)


def conv(i, o, k, s=1, p=0, g=1):
    return nn.Conv2d(i, o, k, s, p, groups=g, bias=False)


def lenet5():
    def run(m, x):
        x = F.avg_pool2d(torch.tanh(m.conv1(x)), 2)
        x = F.avg_pool2d(torch.tanh(m.conv2(x)), 2).flatten(1)
        return m.fc3(torch.tanh(m.fc2(torch.tanh(m.fc1(x)))))
    return Net({"conv1": nn.Conv2d(1, 6, 5, padding=2), "conv2": nn.Conv2d(6, 16, 5), "fc1": nn.Linear(400, 120),
                "fc2": nn.Linear(120, 84), "fc3": nn.Linear(84, CLASSES)}, run)


def pooled(size):
    return lambda m, x: m.classifier(F.adaptive_avg_pool2d(m.features(x), size).flatten(1))


def alexnet(hidden):
    features, i = [], 3
    for o, k, s, p, pool in ((64, 11, 4, 2, 1), (192, 5, 1, 2, 1), (384, 3, 1, 1, 0), (256, 3, 1, 1, 0),
                             (256, 3, 1, 1, 1)):
        features += [nn.Conv2d(i, o, k, s, p), nn.ReLU()] + [nn.MaxPool2d(3, 2)] * pool
        i = o
    dense = [nn.Dropout(), nn.Linear(9216, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(),
             nn.Linear(hidden, CLASSES)]
    return Net({"features": nn.Sequential(*features), "classifier": nn.Sequential(*dense)}, pooled(6))


def vgg(table, norm, hidden):
    features, i = [], 3
    for o in table:
        if o == "M":
            features.append(nn.MaxPool2d(2, 2))
        else:
            features += [nn.Conv2d(i, o, 3, padding=1), *([nn.BatchNorm2d(o)] if norm else []), nn.ReLU()]
            i = o
    dense = [nn.Linear(25088, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(),
             nn.Linear(hidden, CLASSES)]
    return Net({"features": nn.Sequential(*features), "classifier": nn.Sequential(*dense)}, pooled(7))


VGG = {  # columns A, B, D and E of the paper's table 1
    11: [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    13: [64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    16: [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"],
    19: [64, 64, "M", 128, 128, "M"] + [256] * 4 + ["M"] + [512] * 4 + ["M"] + [512] * 4 + ["M"],
}


def residual(kernels, i, o, s):
    """A block of convolutions with these (kernel, outputs); the 3x3 that comes first has the stride."""
    layers, inputs, strided = {}, i, False
    for n, (k, c) in enumerate(kernels, 1):
        here = s if k == 3 and not strided else 1
        strided = strided or k == 3
        layers |= {f"conv{n}": conv(inputs, c, k, here, k // 2), f"bn{n}": nn.BatchNorm2d(c)}
        inputs = c
    if s > 1 or i != o:
        layers["downsample"] = nn.Sequential(conv(i, o, 1, s), nn.BatchNorm2d(o))

    def run(m, x):
        y = x
        for n in range(1, len(kernels) + 1):
            y = getattr(m, f"bn{n}")(getattr(m, f"conv{n}")(y))
            y = torch.relu(y) if n < len(kernels) else y
        return torch.relu(y + (m.downsample(x) if hasattr(m, "downsample") else x))
    return Net(layers, run)


def resnet(bottleneck, counts):
    layers, i = {"conv1": conv(3, 64, 7, 2, 3), "bn1": nn.BatchNorm2d(64)}, 64
    for stage, n in enumerate(counts):
        c, blocks = 64 << stage, []
        o = 4 * c if bottleneck else c
        for b in range(n):
            kernels = [(1, c), (3, c), (1, o)] if bottleneck else [(3, c), (3, c)]
            blocks.append(residual(kernels, i, o, 2 if stage and not b else 1))
            i = o
        layers[f"layer{stage + 1}"] = nn.Sequential(*blocks)
    layers["fc"] = nn.Linear(i, CLASSES)

    def run(m, x):
        x = F.max_pool2d(torch.relu(m.bn1(m.conv1(x))), 3, 2, 1)
        return m.fc(m.layer4(m.layer3(m.layer2(m.layer1(x)))).mean((2, 3)))
    return Net(layers, run)


def cifar_block(i, o, s):
    def run(m, x):
        y = m.bn2(m.conv2(torch.relu(m.bn1(m.conv1(x)))))
        if s > 1:
            empty = torch.zeros_like(y[:, : (o - i) // 2])
            x = torch.cat([empty, x[:, :, ::2, ::2], empty], 1)
        return torch.relu(x + y)
    return Net({"conv1": conv(i, o, 3, s, 1), "bn1": nn.BatchNorm2d(o), "conv2": conv(o, o, 3, 1, 1),
                "bn2": nn.BatchNorm2d(o)}, run)


def cifar_resnet(n):
    layers = {"conv1": conv(3, 16, 3, 1, 1), "bn1": nn.BatchNorm2d(16)}
    for stage, (i, o) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
        layers[f"layer{stage}"] = nn.Sequential(*[cifar_block(o if b else i, o, 1 if b or stage == 1 else 2)
                                                  for b in range(n)])
    layers["linear"] = nn.Linear(64, CLASSES)

    def run(m, x):
        x = m.layer3(m.layer2(m.layer1(torch.relu(m.bn1(m.conv1(x))))))
        return m.linear(F.avg_pool2d(x, x.shape[2:]).flatten(1))
    return Net(layers, run)


def mobile(i, o, k, s=1, g=1):
    return nn.Sequential(conv(i, o, k, s, (k - 1) // 2, g), nn.BatchNorm2d(o), nn.ReLU6())


def mobile_block(i, o, s, t):
    wide = [mobile(i, i * t, 1)] if t > 1 else []
    layers = nn.Sequential(*wide, mobile(i * t, i * t, 3, s, i * t), conv(i * t, o, 1), nn.BatchNorm2d(o))
    return Net({"conv": layers}, lambda m, x: m.conv(x) + (x if s == 1 and i == o else 0))


def mobilenet_v2(dropout=0.2):
    features, i = [mobile(3, 32, 3, 2)], 32
    for t, c, n, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                       (6, 320, 1, 1)):
        for b in range(n):
            features.append(mobile_block(i, c, 1 if b else s, t))
            i = c
    features.append(mobile(i, 1280, 1))
    return Net({"features": nn.Sequential(*features),
                "classifier": nn.Sequential(nn.Dropout(dropout), nn.Linear(1280, CLASSES))}, pooled(1))


def same(layer, x):
    """TensorFlow's SAME: the output has ceil(size / stride) rows, the odd row of padding is the last."""
    edges = []
    for axis in (1, 0):
        k, s, size = layer.kernel_size[axis], layer.stride[axis], x.shape[2 + axis]
        total = max(0, ((size + s - 1) // s - 1) * s + k - size)
        edges += [total // 2, total - total // 2]
    return layer(F.pad(x, edges))


def lite_norm(c):
    return nn.BatchNorm2d(c, eps=1e-3, momentum=0.01)


def lite_block(i, o, s, k, t):
    w = i * t
    if t == 1:
        layers = {"conv_dw": conv(w, w, k, s, 0, w), "bn1": lite_norm(w), "conv_pw": conv(w, o, 1), "bn2": lite_norm(o)}
    else:
        layers = {"conv_pw": conv(i, w, 1), "bn1": lite_norm(w), "conv_dw": conv(w, w, k, s, 0, w), "bn2": lite_norm(w),
                  "conv_pwl": conv(w, o, 1), "bn3": lite_norm(o)}

    def run(m, x):
        if t == 1:
            y = m.bn2(m.conv_pw(F.relu6(m.bn1(same(m.conv_dw, x)))))
        else:
            y = F.relu6(m.bn2(same(m.conv_dw, F.relu6(m.bn1(m.conv_pw(x))))))
            y = m.bn3(m.conv_pwl(y))
        return x + y if s == 1 and i == o else y
    return Net(layers, run)


def efficientnet_lite0():
    stages, i = [], 32
    for t, c, n, s, k in ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
                          (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)):
        stage = []
        for b in range(n):
            stage.append(lite_block(i, c, 1 if b else s, k, t))
            i = c
        stages.append(nn.Sequential(*stage))

    def run(m, x):
        x = m.blocks(F.relu6(m.bn1(same(m.conv_stem, x))))
        return m.classifier(F.relu6(m.bn2(m.conv_head(x))).mean((2, 3)))
    return Net({"conv_stem": conv(3, 32, 3, 2), "bn1": lite_norm(32), "blocks": nn.Sequential(*stages),
                "conv_head": conv(i, 1280, 1), "bn2": lite_norm(1280), "classifier": nn.Linear(1280, CLASSES)}, run)


def unit(i, o, k, s=1, p=0):
    return Net({"conv": conv(i, o, k, s, p), "bn": nn.BatchNorm2d(o, eps=1e-3)},
               lambda m, x: torch.relu(m.bn(m.conv(x))))


ROW7, COLUMN7 = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
ROW3, COLUMN3 = ((1, 3), 1, (0, 1)), ((3, 1), 1, (1, 0))
AVERAGE, MAXIMUM = (lambda x: F.avg_pool2d(x, 3, 1, 1)), (lambda x: F.max_pool2d(x, 3, 2))


def inception(i, branches):
    """Branches side by side: each a chain of (name, outputs, kernel, stride, padding), of pools, or of split ends."""
    layers, runs = {}, []

    def chain(steps, inputs):
        calls = []
        for step in steps:
            if callable(step):
                calls.append(lambda m, x, f=step: f(x))
            elif isinstance(step, list):
                ends = [chain([end], inputs) for end in step]
                calls.append(lambda m, x, ends=ends: torch.cat([end(m, x) for end in ends], 1))
            else:
                name, outputs, *rest = step
                layers[name] = unit(inputs, outputs, *rest)
                inputs = outputs
                calls.append(lambda m, x, name=name: getattr(m, name)(x))

        def run(m, x):
            for call in calls:
                x = call(m, x)
            return x
        return run

    for steps in branches:
        runs.append(chain(steps, i))
    return Net(layers, lambda m, x: torch.cat([run(m, x) for run in runs], 1))


def inception_a(i, pool):
    return inception(i, [
        [("branch1x1", 64, 1)], [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5, 1, 2)],
        [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3, 1, 1), ("branch3x3dbl_3", 96, 3, 1, 1)],
        [AVERAGE, ("branch_pool", pool, 1)]])


def inception_c(c):
    return inception(768, [
        [("branch1x1", 192, 1)], [("branch7x7_1", c, 1), ("branch7x7_2", c, *ROW7), ("branch7x7_3", 192, *COLUMN7)],
        [("branch7x7dbl_1", c, 1), ("branch7x7dbl_2", c, *COLUMN7), ("branch7x7dbl_3", c, *ROW7),
         ("branch7x7dbl_4", c, *COLUMN7), ("branch7x7dbl_5", 192, *ROW7)], [AVERAGE, ("branch_pool", 192, 1)]])


def inception_e(i):
    return inception(i, [
        [("branch1x1", 320, 1)],
        [("branch3x3_1", 384, 1), [("branch3x3_2a", 384, *ROW3), ("branch3x3_2b", 384, *COLUMN3)]],
        [("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3, 1, 1),
         [("branch3x3dbl_3a", 384, *ROW3), ("branch3x3dbl_3b", 384, *COLUMN3)]], [AVERAGE, ("branch_pool", 192, 1)]])


def inception_v3(transform_input=False, dropout=0.5):
    mixed_6a = inception(288, [[("branch3x3", 384, 3, 2)], [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3, 1, 1),
                                                            ("branch3x3dbl_3", 96, 3, 2)], [MAXIMUM]])
    mixed_7a = inception(768, [
        [("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2)],
        [("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, *ROW7), ("branch7x7x3_3", 192, *COLUMN7),
         ("branch7x7x3_4", 192, 3, 2)], [MAXIMUM]])
    auxiliary = Net({"conv0": unit(768, 128, 1), "conv1": unit(128, 768, 5), "fc": nn.Linear(768, CLASSES)},
                    lambda m, x: m.fc(m.conv1(m.conv0(F.avg_pool2d(x, 5, 3))).mean((2, 3))))
    body = {
        "Conv2d_1a_3x3": unit(3, 32, 3, 2), "Conv2d_2a_3x3": unit(32, 32, 3), "Conv2d_2b_3x3": unit(32, 64, 3, 1, 1),
        "maxpool1": nn.MaxPool2d(3, 2), "Conv2d_3b_1x1": unit(64, 80, 1), "Conv2d_4a_3x3": unit(80, 192, 3),
        "maxpool2": nn.MaxPool2d(3, 2), "Mixed_5b": inception_a(192, 32), "Mixed_5c": inception_a(256, 64),
        "Mixed_5d": inception_a(288, 64), "Mixed_6a": mixed_6a, "Mixed_6b": inception_c(128),
        "Mixed_6c": inception_c(160), "Mixed_6d": inception_c(160), "Mixed_6e": inception_c(192),
    }
    end = {"Mixed_7a": mixed_7a, "Mixed_7b": inception_e(1280), "Mixed_7c": inception_e(2048)}

    def run(m, x):
        if transform_input:
            mean, std = (x.new_tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
            x = ((x * std + mean) - 0.5) / 0.5
        for name in body:
            x = getattr(m, name)(x)
        extra = m.AuxLogits(x) if m.training else None
        for name in end:
            x = getattr(m, name)(x)
        x = m.fc(F.dropout(x.mean((2, 3)), dropout, m.training))
        return x if extra is None else (x, extra)
    return Net({**body, "AuxLogits": auxiliary, **end, "fc": nn.Linear(2048, CLASSES)}, run)


def twin(name, options):
    if name.startswith("vgg"):
        return vgg(VGG[int(name[3:5])], name.endswith("_bn"), **options)
    imagenet = {"resnet18": (False, (2, 2, 2, 2)), "resnet34": (False, (3, 4, 6, 3)), "resnet50": (True, (3, 4, 6, 3)),
                "resnet101": (True, (3, 4, 23, 3)), "resnet152": (True, (3, 8, 36, 3))}
    if name in imagenet:
        return resnet(*imagenet[name])
    if name.startswith("resnet"):
        return cifar_resnet((int(name[6:]) - 2) // 6)
    return globals()[name](**options)


def results(case):
    model = twin(case.name, case.options)
    drawn = weights({name: tuple(value.shape) for name, value in model.state_dict().items()})
    model.load_state_dict({name: torch.tensor(value) for name, value in drawn.items()})
    model.double().train(case.training)
    images, labels = batch(case)
    outputs = model(torch.tensor(images).double())
    heads = outputs if isinstance(outputs, tuple) else (outputs,)
    sum(F.cross_entropy(scores, torch.tensor(labels)) for scores in heads).backward()
    gradients = {name: value.grad.numpy() for name, value in model.named_parameters() if value.grad is not None}
    names = sorted(gradients)
    yield "scores", torch.stack(heads).detach().numpy()
    yield "norms", np.array([np.linalg.norm(gradients[name]) for name in names])
    for name in sampled(names):
        yield f"gradient/{name}", sample(gradients[name])
    if case.training:
        yield "means", np.array([np.linalg.norm(b.numpy()) for n, b in sorted(model.named_buffers()) if "mean" in n])
    yield "tensors", np.array(len(drawn))


if __name__ == "__main__":
    values: dict[str, np.ndarray] = {}
    for case in CASES:
        found = dict(results(case))
        print(f"{case.key()}: scores {found['scores'].std():.3g}, norms {found['norms'].min():.3g} to "
              f"{found['norms'].max():.3g}", flush=True)
        values |= {f"{case.key()}/{key}": value.astype(np.float32) for key, value in found.items()}
    path = Path(__file__).with_name("zoo.npz")
    np.savez_compressed(path, **values)
    print(f"{len(values)} arrays, {path.stat().st_size / 1e3:.0f} kB")
