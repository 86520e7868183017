//! Scenarios that do no harm to their broker: they also run with the one that `IMAGESHARE_TEST_BROKER` names.

mod check;
mod closed_lanes;
mod service;
mod throttle;
mod worker;
