//! The wire formats of jobs and reports.
