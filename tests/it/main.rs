//! Everything that is tested from outside, in one binary: one link step.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::missing_panics_doc,
    reason = "a test that fails is to say so at once"
)]
#![expect(unreachable_pub, reason = "nothing outside reaches into a test binary")]

mod chromium;
mod config;
mod sign_in;
mod store_contract;
mod store_crash;
mod support;
