"""A PyTorch script runs on minidl when its import lines are changed, and computes what PyTorch computes."""

from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_name("golden")
IMPORT_LINES = {
    "import torch\n": "import minidl as torch\n",
    "import torch.nn as nn\n": "import minidl.nn as nn\n",
    "import torch.nn.functional as F\n": "import minidl.nn.functional as F\n",
    "import torch.optim as optim\n": "import minidl.optim as optim\n",
    "from torch.optim.lr_scheduler import": "from minidl.optim.lr_scheduler import",
    "from torch.utils.data import": "from minidl.data import",
}


def test_a_pytorch_script_ports_by_its_import_lines():
    source = (GOLDEN / "torch_script.py").read_text()
    for line, ours in IMPORT_LINES.items():
        assert line in source
        source = source.replace(line, ours)
    script: dict = {"__name__": "ported"}
    exec(compile(source, "ported torch_script.py", "exec"), script)
    ported, expected = script["run"](), np.load(GOLDEN / "port.npz")
    assert ported["parameters"] == expected["parameters"]
    assert ported["correct"] == expected["correct"]
    np.testing.assert_allclose(ported["losses"], expected["losses"], rtol=1e-5)
    np.testing.assert_allclose(ported["scores"], expected["scores"], rtol=1e-4)
    np.testing.assert_allclose(ported["running_var"], expected["running_var"], rtol=1e-5)
    assert ported["losses"][-1] < ported["losses"][0]
