"""Instruction counts of the sidecar's hot path, held against a baseline: exact where time is noisy.

In the order in which a run passes them: `cases` (what is counted), `programs` (what must be there), `mesh`,
`application`, `load` and `http2` (two sidecars, and what goes through them), `callgrind` (what is counted of that),
`baseline` (what is made of the counts), `environment` (what counts depend on beside the code).
"""
