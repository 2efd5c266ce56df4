//! Doorward: a reverse proxy that owns the session. `ARCHITECTURE.md` is the map.
//!
//! One request, top to bottom: `edge` accepts a connection and frames requests; `pipeline` refuses what is ambiguous,
//! finds the route (`routing`), checks the session (`session`), decides (`pipeline::gate`), tells the app who it is
//! (`identity`) and sends the request on (`upstream`). What has no session is sent to log in (`portal`, `login`).

pub mod admin;
pub mod app;
pub mod audit;
pub mod authority;
pub mod cli;
pub mod clock;
pub mod config;
pub mod deadline;
pub mod demo;
pub mod edge;
pub mod identity;
pub mod login;
pub mod outbound;
pub mod pipeline;
pub mod portal;
pub mod resolver;
pub mod routing;
pub mod secret;
pub mod session;
pub mod telemetry;
pub mod upstream;
pub mod wire;
