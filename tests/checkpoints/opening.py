"""Opens folders of models under watch; run as a script, this file is a process that opens all it is told of.

It is given a file of JSON: ``good`` places, whose opening brings along what is imported late, and ``hostile`` ones. For each
hostile one it writes what came of it, how long it took, and what Python's audit hooks saw meanwhile.
"""

import hashlib
import json
import re
import resource
import signal
import sys
import time
import traceback
from pathlib import Path

import torch

from bothways.checkpoints.checkpoint import load_checkpoint
from bothways.errors import BothwaysError

ROOM = 500 * 2**20  # bytes that opening may allocate, used or not
PATIENCE = 20  # seconds on the clock after which an opening that hangs is ended
WATCHED = ("exec", "compile", "import", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty")
WATCHED += ("subprocess.Popen", "socket.connect", "pickle.find_class", "marshal.load", "marshal.loads", "ctypes.dlopen")
events = []


def watch(event, arguments):
    if event in WATCHED:
        events.append(f"{event} {str(arguments)[:200]}")


def digest(model):
    """Return a hash of all weights, and of their names."""
    found = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        found.update(name.encode() + weight.detach().numpy().tobytes())
    return found.hexdigest()


def give_up(*_):
    raise TimeoutError


def open_one(place):
    events.clear()
    begin = time.process_time()  # a busy machine makes nothing slower
    signal.alarm(PATIENCE)
    try:
        outcome = {"weights": digest(load_checkpoint(place).model)}
    except BothwaysError as error:
        outcome = {"refused": type(error).__name__, "said": str(error)}
    except BaseException as error:
        outcome = {"bug": type(error).__name__, "said": traceback.format_exc()[-2000:]}
    signal.alarm(0)
    return {**outcome, "seconds": time.process_time() - begin, "events": list(events)}


def main(job, answer):
    job = json.loads(Path(job).read_text())
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, give_up)
    outcomes = {"good": {place: open_one(place) for place in job["good"]}}
    if (status := Path("/proc/self/status")).exists():  # on Linux
        taken = int(re.search(r"VmSize:\s+(\d+) kB", status.read_text())[1]) * 1024
        resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))
    sys.addaudithook(watch)
    compile("1", "", "eval")
    outcomes["control"] = list(events)
    outcomes["hostile"] = {place: open_one(place) for place in job["hostile"]}
    Path(answer).write_text(json.dumps(outcomes))


if __name__ == "__main__":
    main(*sys.argv[1:])
