"""Write small networks of PyTorch as ONNX files by its own exporter, with what ONNX Runtime computes for an input.

Run with PyTorch and onnxruntime installed: `python tests/golden/make_onnx.py`.
"""

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

HERE = Path(__file__).with_name("onnx")


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)) \
            if stride > 1 else nn.Identity()

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 4, 7, 2, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1, self.layer2 = nn.Sequential(Block(4, 4, 1)), nn.Sequential(Block(4, 8, 2), Block(8, 8, 1))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 10)

    def forward(self, x):
        x = self.layer2(self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x))))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class MobileNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU6(), nn.Conv2d(4, 4, 3, 1, 1, groups=4), nn.BatchNorm2d(4), nn.Hardswish(),
            nn.Conv2d(4, 8, (1, 3), (1, 2), (0, 1), dilation=(1, 2)), nn.SiLU(), nn.AvgPool2d(3, 2, 1, ceil_mode=True))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(8, 5))

    def forward(self, x):
        return torch.softmax(self.classifier(self.features(x).mean([2, 3])), 1)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.LeakyReLU(0.1), nn.GroupNorm(2, 8),
            nn.ConvTranspose2d(8, 4, 3, 2, 1, output_padding=1), nn.ELU(), nn.InstanceNorm2d(4, affine=True),
            nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), nn.PReLU(4), nn.PixelShuffle(2),
            nn.Upsample(scale_factor=1.5, mode="bilinear"), nn.Softplus())

    def forward(self, x):
        y = self.layers(x)
        left, right = torch.split(y, [5, y.shape[-1] - 5], -1)
        return y[:, :, 1:-1:2], torch.cat([right, left.flip(-1)], -1)


class Sequence(nn.Module):
    def __init__(self, kind, bidirectional):
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.rnn = getattr(nn, kind)(6, 5, num_layers=2, batch_first=True, bidirectional=bidirectional)
        self.fc = nn.Linear(10 if bidirectional else 5, 3)

    def forward(self, x):
        y, last = self.rnn(self.embedding(x))
        return self.fc(y[:, -1]), last[0] if isinstance(last, tuple) else last


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.position = nn.Embedding(20, 8), nn.Parameter(torch.randn(1, 7, 8))
        self.encoder = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, activation="gelu")
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.norm(self.encoder(self.embedding(x) + self.position)).mean(1))


NETWORKS = {
    "resnet": (ResNet, "image", 13), "resnet_batchnorm": (ResNet, "image", 17), "mobilenet": (MobileNet, "image", 17),
    "decoder": (Decoder, "image", 17), "lstm": (lambda: Sequence("LSTM", True), "words", 13),
    "gru": (lambda: Sequence("GRU", False), "words", 17), "rnn": (lambda: Sequence("RNN", True), "words", 17),
    "transformer": (Transformer, "words", 17), "transformer_14": (Transformer, "words", 14),
}


def main():
    values = {}
    for number, (name, (make, kind, opset)) in enumerate(NETWORKS.items()):
        torch.manual_seed(number)
        model = make().eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
        x = torch.randn(2, 3, 20, 20) if kind == "image" else torch.randint(0, 20, (2, 7))
        kept = name == "resnet_batchnorm"  # BatchNorm as nodes of its own, not merged into the convolutions
        torch.onnx.export(model, (x,), HERE / f"{name}.onnx", dynamo=False, opset_version=opset, input_names=["x"],
                          dynamic_axes={"x": {0: "N"}}, do_constant_folding=not kept,
                          training=torch.onnx.TrainingMode.PRESERVE if kept else torch.onnx.TrainingMode.EVAL)
        values[f"{name}.x"] = x.numpy()
        results = onnxruntime.InferenceSession(HERE / f"{name}.onnx").run(None, {"x": x.numpy()})
        values |= {f"{name}.y{place}": result for place, result in enumerate(results)}
    np.savez_compressed(HERE / "expected.npz", **values)


if __name__ == "__main__":
    main()
