//! Routes: which rule takes a request, where it goes, and what is done to it.

mod filters;
mod grpc;
mod hosts;
mod live;
mod matches;
mod opaque;
mod redirects;
mod weights;
