//! The rules one by one, driven by hand. What they do together, the simulation shows.

mod busy;
mod doubt;
mod fault;
mod isolate;
mod key;
mod kit;
mod lane;
mod numbers;
mod order;
mod pace;
mod quota;
mod reading;
mod sync;
