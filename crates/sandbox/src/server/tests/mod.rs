//! The sandbox over real sockets, spoken to by a plain client that signs with the verifier's own mathematics.

mod answers;
mod endings;
mod faults;
mod kit;
mod refusals;
