"""An ordinary PyTorch training script, kept as PyTorch users write it. `tests/test_port.py` runs it on minidl by
changing its import lines, and compares what it prints with PyTorch's own run (`make_port.py`)."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset


class ConvNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, kernel_size=3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=1, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2, 2)
        self.dropout = nn.Dropout(p=0.0)
        self.block = nn.Sequential(nn.Conv2d(16, 16, 1), nn.ReLU(inplace=True))
        self.fc1 = nn.Linear(16 * 4 * 4, 32)
        self.fc2 = nn.Linear(32, num_classes)

    def forward(self, x):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x + self.block(x)
        x = x.view(x.size(0), -1)
        x = self.dropout(torch.relu(self.fc1(x)))
        return self.fc2(x)


def set_weights(model):
    rng = np.random.RandomState(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.from_numpy(0.2 * rng.standard_normal(tuple(parameter.shape)).astype("float32")))
            else:
                parameter.fill_(0.1)


def run():
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rng = np.random.RandomState(1)
    images = torch.tensor(rng.standard_normal((48, 3, 16, 16)), dtype=torch.float32)
    labels = torch.tensor(rng.randint(0, 10, 48), dtype=torch.long)
    train_loader = DataLoader(TensorDataset(images, labels), batch_size=16, shuffle=False, num_workers=0)
    model = ConvNet().to(device)
    set_weights(model)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
    scheduler = StepLR(optimizer, step_size=1, gamma=0.5)
    losses = []
    for _epoch in range(3):
        model.train()
        for _, (data, target) in enumerate(train_loader):
            data, target = data.to(device), target.to(device)
            optimizer.zero_grad()
            output = model(data)
            loss = criterion(output, target)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
            optimizer.step()
            losses.append(loss.item())
        scheduler.step()
    model.eval()
    correct, scores = 0, []
    with torch.no_grad():
        for data, target in train_loader:
            output = F.log_softmax(model(data), dim=1)
            pred = output.argmax(dim=1, keepdim=True)
            correct += pred.eq(target.view_as(pred)).sum().item()
            _, predicted = torch.max(output.data, 1)
            assert (predicted == pred.squeeze(1)).all()
            scores.append(output.exp().mean(dim=0).cpu().numpy())
    return {"losses": losses, "correct": correct, "scores": np.stack(scores),
            "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "running_var": model.state_dict()["bn1.running_var"].numpy()}
