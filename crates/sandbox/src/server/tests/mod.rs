//! The sandbox over real sockets, with a client that signs with the code of the verifier.

mod answers;
mod core_client;
mod endings;
mod faults;
mod kit;
mod proxy;
mod refusals;
