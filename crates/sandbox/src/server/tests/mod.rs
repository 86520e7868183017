//! The sandbox over real sockets, spoken to by a plain client that signs with the verifier's own mathematics.

mod answers;
mod core_client;
mod endings;
mod faults;
mod kit;
mod refusals;
