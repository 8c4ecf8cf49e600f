"""A PyTorch training script that runs on minidl by changing its import lines (listing L3).

The original never imported `F`, had no pooling although its dense layer expected 8x8 maps (a 32x32 image gave 65,536
features instead of 4,096), no data loader and no evaluation. With two 2x2 pools it is a network of 545,098 parameters.
"""

# %% The import lines: in PyTorch `import torch`, `import torch.nn as nn`, …
import argparse

from colour_images import colour_images

import minidl as torch
import minidl.nn as nn
import minidl.nn.functional as F
import minidl.optim as optim
from minidl.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="1,000 images, 1 epoch")
parser.add_argument("--epochs", type=int, default=5)
options = parser.parse_args()


# %%
class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3, padding=1)
        self.fc1 = nn.Linear(64 * 8 * 8, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)  # N, 32, 16, 16
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # N, 64, 8, 8
        x = x.view(-1, 64 * 8 * 8)
        x = F.relu(self.fc1(x))
        return self.fc2(x)


def loader(split, shuffle):
    dataset = colour_images(split)
    if options.quick:
        dataset = dataset.first(1000 if split == "train" else 500)
    images, labels = dataset.arrays()
    return DataLoader(TensorDataset(torch.from_numpy(images), torch.from_numpy(labels)), batch_size=64, shuffle=shuffle)


# %%
torch.manual_seed(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
model = ConvNet().to(device)
criterion = nn.CrossEntropyLoss()
optimizer = optim.Adam(model.parameters(), lr=0.001)
train_loader, test_loader = loader("train", True), loader("test", False)
print(f"{sum(p.numel() for p in model.parameters()):,} parameters")

# %%
for epoch in range(1 if options.quick else options.epochs):
    model.train()
    running_loss = 0.0
    for images, labels in train_loader:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item() * images.size(0)

    model.eval()
    correct = total = 0
    with torch.no_grad():
        for images, labels in test_loader:
            _, predicted = torch.max(model(images.to(device)), 1)
            total += labels.size(0)
            correct += (predicted == labels.to(device)).sum().item()
    print(f"epoch {epoch + 1}: loss {running_loss / len(train_loader.dataset):.4f}, "
          f"test accuracy {100 * correct / total:.2f} %")
