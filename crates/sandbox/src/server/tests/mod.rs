//! The sandbox over real sockets, with a client that signs with the code of the verifier.

mod core_client;
mod faults;
mod kit;
mod proxy;
mod refusals;
mod responses;
mod shutdown;
