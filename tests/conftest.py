"""One thread: the matrices of the tests are small, and threads that wait for each other on a busy machine are slow."""

import torch

torch.set_num_threads(1)
