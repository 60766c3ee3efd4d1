"""The contenders: each module trains the same workload by one framework.

Each has ``train(workload, folder, model, **options)``: it trains ``model`` and writes what it writes to ``folder``.
"""
