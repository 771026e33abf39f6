//! Weft's control plane: what the operator's objects say, pushed to every sidecar as it needs it.
