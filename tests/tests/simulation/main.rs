//! A whole mesh on a simulated network and on simulated time: the real control plane and real sidecars, each on
//! a host of its own, under partitions, crashes and delays.
//!
//! Built under `--cfg weft_sim` alone (docs/testing.md says how). A scenario prints its seed, which
//! `WEFT_SIM_SEED` sets.
#![cfg(weft_sim)]

mod between_sidecars;
mod certificates;
mod control_plane_lost;
mod dials;
mod objects;
mod policies;
mod shop;
mod site;
mod world;
