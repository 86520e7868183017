//! The driver: one task owns the engine and carries out what it wants.
//!
//! Everything that can happen comes to it as one closed set of events: a job, news of a call, an interrupt, the end of
//! the source, a moment that was waited for. After each it does all that the engine wants done. Calls run in tasks of
//! their own, as many as the engine has in flight; nothing else runs beside it and nothing is locked.
//!
//! There are two such loops: of a run, which ends with its source, and of a daemon, whose lanes come and go.
//!
//! The driver knows jobs as the engine does. What else a source knows of a job travels along as its identity and comes
//! back with the report.

mod calls;
mod carry_out;
mod event;
mod following;
mod held;
mod lanes;
mod progress;
mod run;
mod serve;
mod source;
mod summary;

pub use carry_out::Driver;
pub use event::{Delivery, Epoch, FromLane, Order, Outcomes, Requeue, Said, Settled, ToLane};
pub use lanes::{Lane, NoCredential, RouteError, Routed, open_lanes, route};
pub use progress::{Progress, Snapshot};
pub use run::Connections;
pub use serve::Lines;
pub use source::{Aside, End, Extent, Found, Source};
pub use summary::{Closing, Summary};

#[cfg(test)]
mod tests;
