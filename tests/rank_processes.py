"""Processes that stand for the ranks of a distributed run: they start once, and each test hands them its work."""

import os

import forked
import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState


class RankProcesses:
    """Processes of which a call takes as many as it wants; each starts when it is first wanted."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []
        self.calls = 0

    def run(self, ranks, function, *arguments):
        """Call ``function(*arguments)`` on so many ranks of a group of its own; return what each returned."""
        while len(self.started) < ranks:
            self._start()
        self.calls += 1
        meeting = f"file://{self.folder}/meeting-{self.calls}"
        chosen = [connection for _, connection in self.started[:ranks]]
        for rank, connection in enumerate(chosen):
            connection.send((rank, ranks, meeting, function, arguments))
        answers = []
        for connection in chosen:
            assert connection.poll(180), "a rank does not answer"
            answers.append(connection.recv())
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def stop(self):
        for process, connection in self.started:
            connection.send(None)
            process.join(20)

    def _start(self):
        context = forked.context()
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs,), daemon=True)
        process.start()
        self.started.append((process, ours))


class Ranks:
    """So many ranks of the processes, for functions that want to know which they are."""

    def __init__(self, processes, size):
        self.processes = processes
        self.size = size

    def run(self, function, *arguments):
        """Call ``function(rank, *arguments)`` on every rank; return what each returned."""
        return self.processes.run(self.size, tell_rank, function, arguments)


class HereOrRanks:
    """The processes, where a run of one rank needs none of them."""

    def __init__(self, processes):
        self.processes = processes

    def run(self, ranks, function, *arguments):
        """Call ``function(*arguments)`` on so many ranks, alone in this process for one; return what each returned."""
        if ranks > 1:
            return self.processes.run(ranks, function, *arguments)
        AcceleratorState._reset_state(True)
        return [function(*arguments)]


def tell_rank(function, arguments):
    return function(dist.get_rank(), *arguments)


def serve(connection):
    torch.set_num_threads(1)
    while (work := connection.recv()) is not None:
        try:
            connection.send(call_as_rank(*work))
        except Exception as error:  # noqa: BLE001 - the test that asked gets it
            connection.send(error)


def call_as_rank(rank, ranks, meeting, function, arguments):
    """Join a group made for this call, as torchrun would have made it."""
    group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "OMP_NUM_THREADS": 1}
    os.environ.update({name: str(value) for name, value in group.items()})
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks)
    AcceleratorState._reset_state(True)
    try:
        return function(*arguments)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
