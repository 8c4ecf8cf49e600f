"""Promise 4, seen from the interpreter: reading a file of any kind opens that file alone, imports and runs nothing.

A process of its own reads sound and mutated files under an audit hook, which cannot be taken away again. What a kind
needs at first (minidl's own modules that are loaded late) is read once before the hook looks.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PROGRAM = """
import json, sys, tempfile, warnings
from pathlib import Path
from fuzz_kinds import kinds
from fuzzing import content, prepared

WATCHED = ("open", "import", "exec", "os.", "subprocess.", "socket.", "pickle.", "marshal.", "ctypes.", "shutil.")
seen, watching = [], False

def hook(event, arguments):
    if watching and event.startswith(WATCHED):
        seen.append((event, str(arguments[0]) if arguments else ""))

def read(kind, path, data, watch):
    global watching
    path.write_bytes(data)
    model = kind.model()
    watching = watch
    try:
        kind.read(path, model)
    except ValueError:
        pass
    finally:
        watching = False
    strange = {(event, what) for event, what in seen if not what.startswith(str(path.parent))}
    seen.clear()
    return sorted(strange)

sys.addaudithook(hook)
warnings.simplefilter("ignore")
with tempfile.TemporaryDirectory() as folder:
    known = kinds(Path(folder))
    for name, kind in known.items():
        path = prepared(kind, Path(folder) / "read")
        for data in kind.seeds:
            read(kind, path, data, False)
        for data in (*kind.seeds, *(content(kind, number) for number in range(int(sys.argv[1])))):
            strange = read(kind, path, data, True)
            if strange:
                print(json.dumps([name, strange]))
print("done", len(known))
"""


def test_promise_4_reading_opens_that_file_alone_and_imports_and_runs_nothing():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
    result = subprocess.run([sys.executable, "-c", PROGRAM, "30"], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    *strange, last = result.stdout.splitlines()
    assert last.startswith("done") and [json.loads(line) for line in strange] == []
