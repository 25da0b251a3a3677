"""Ratios against peers, each measured in one process against a named baseline; see docs/benchmarks.md.

python -m bench                 everything that can run here; peers only where their environments exist
python -m bench --install       first make the peers' environments (bench/.peers, several GB)
python -m bench --smoke         tiny sizes: does every benchmark still run?
"""
