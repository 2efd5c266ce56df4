//! Starts what tells apps of the ends of sessions, where a route asks for that.

use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::Phase;
use super::build::while_running;
use crate::config::Settings;
use crate::deadline::Watch;
use crate::pipeline::{Farewells, Shared};
use crate::upstream::Upstreams;

pub(super) fn spawn(
    control: &Runtime,
    (settings, shared): (&Settings, &Shared),
    phases: &watch::Receiver<Phase>,
) {
    let watch = Watch::default();
    let farewells = Farewells::new(
        &settings.routes,
        // No worker's: what is asked is asked beside the requests.
        || Arc::new(Upstreams::new(&settings.upstreams, &watch)),
        (
            shared.sessions.clone(),
            shared.metrics.clone(),
            settings.forwarding,
        ),
    );
    if let Some(farewells) = farewells
        && let Some(overs) = shared.sessions.overs()
    {
        control.spawn(while_running(watch.run(), phases.clone()));
        control.spawn(while_running(farewells.run(overs), phases.clone()));
    }
}
