//! Faults under load, every request counted: nothing that the mesh does to itself may cost a single one.

mod delivery;
mod drain;
mod endpoints;
mod rotation;
mod shop;
