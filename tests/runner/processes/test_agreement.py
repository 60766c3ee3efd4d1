"""What ranks agree on: the largest number, heard one step later; on one process at once."""

import torch

from assay.runner.processes.agreement import Agreement


def tell(numbers):
    agreement = Agreement(torch.device("cpu"))
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    return [agreement.exchange(number) for number in numbers[rank]] + [agreement.settle(0)]


def test_one_process_hears_itself_at_once(processes):
    assert processes.run(1, tell, [[0, 5, 3]]) == [[0, 5, 3, 0]]


def test_ranks_hear_the_largest_number_one_time_later(processes):
    assert processes.run(2, tell, [[0, 5, 3], [0, 0, 7]]) == [[0, 0, 5, 7]] * 2
