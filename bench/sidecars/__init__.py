"""Side-by-side measurement of sidecars: load -> sidecar A -> mutual TLS -> sidecar B -> application.

In the order in which a run passes them: `arguments` (what is asked), `programs` (what must be there), `pki`,
`namespaces` and `process` (the ground), `bed` (one sidecar's pair of pods), `peers` (how each is configured),
`loads` and `outputs` (generators, and what they print), `measures` (the tests), `rounds` (their order),
`figures`, `goals` and `report` (what is made of the figures).
"""
