//! The harness that runs a whole mesh in one process, and raw peers to provoke it with.
