//! Interception in pods, for real: the rules that `weft-proxy init` writes, in network namespaces that stand for pods
//! and the node between them. Root only.
//!
//! | file | holds |
//! |---|---|
//! | `rules.rs` | what the kernel has after `init`: the same as `nft` makes of its text, whatever was there before |
//! | `verification.rs` | what `init` says where interception holds, and where it does not |
//! | `cluster.rs` | which connection goes where, with sidecars, and a node that stands for kube-proxy |
//!
//! What holds on machines too is in `tests/tests/transparent.rs`, which plays on both grounds. A case of its own starts a
//! stage: `for ground in cluster_grounds("its_name") { let stage = Stage::start(ground).await; … }`.

mod cluster;
mod pods;
mod rules;
mod verification;
