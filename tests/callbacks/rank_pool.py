"""Processes that stand for the ranks of a distributed run: they start once, and each test hands them its work."""

from multiprocessing import get_context

import torch
import torch.distributed as dist


class RankPool:
    def __init__(self, size, folder):
        context = get_context("spawn")
        pipes = [context.Pipe() for _ in range(size)]
        self.connections = [ours for ours, _ in pipes]
        self.processes = [
            context.Process(target=serve, args=(rank, size, f"file://{folder}/init", theirs), daemon=True)
            for rank, (_, theirs) in enumerate(pipes)
        ]
        for process in self.processes:
            process.start()

    def run(self, function, *arguments):
        """Call ``function(rank, *arguments)`` on every rank; return what each returned."""
        for connection in self.connections:
            connection.send((function, arguments))
        answers = []
        for connection in self.connections:
            assert connection.poll(180), "a rank does not answer"
            answers.append(connection.recv())
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def stop(self):
        for connection in self.connections:
            connection.send(None)
        for process in self.processes:
            process.join(20)


def serve(rank, size, init_method, connection):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=init_method, rank=rank, world_size=size)
    while (work := connection.recv()) is not None:
        function, arguments = work
        try:
            connection.send(function(rank, *arguments))
        except Exception as error:  # noqa: BLE001 - the test that asked gets it
            connection.send(error)
    dist.destroy_process_group()
