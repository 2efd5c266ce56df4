//! The composition root: from settings to objects to running servers, and back down again. It knows every area; only
//! the command line and the demo know it.

mod build;
mod farewells;
mod following;
mod signals;
mod sockets;
mod ticketing;
mod ways;
mod worker;

pub use build::check_certificates;
pub use signals::Signals;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::admin::{AdminState, SocketFile};
use crate::clock::{Clock, TICK};
use crate::config::Settings;
use crate::deadline::Drain;
use crate::edge::Permits;
use crate::session::Sessions;
use crate::telemetry::{self, Audit, LineWriter};

/// What a worker is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Serve,
    /// Accept nothing new, finish what is under way.
    Drain,
    Stop,
}

/// A server that runs in threads of its own.
#[derive(Debug)]
pub struct Running {
    /// Where it listens: what was configured, with the ports that were given for 0.
    pub https: Vec<SocketAddr>,
    pub http: Vec<SocketAddr>,
    pub admin: Option<SocketAddr>,
    /// The unix socket for commands; its file goes at the end.
    pub admin_socket: Option<SocketFile>,
    pub sessions: Arc<Sessions>,
    phase: watch::Sender<Phase>,
    draining: Arc<Drain>,
    permits: Arc<Permits>,
    drain_timeout: Duration,
    workers: Vec<JoinHandle<()>>,
    control: Option<Runtime>,
    admin_state: Arc<AdminState>,
    upkeep: Option<tokio::task::JoinHandle<()>>,
    audit: Audit,
    logs: Vec<LineWriter>,
}

/// Starts everything. Sockets are bound before anything is served, so what cannot be bound is an error here.
#[expect(
    clippy::needless_pass_by_value,
    reason = "what has been started is not to be changed by whoever started it"
)]
pub fn start(settings: Settings, clock: Clock) -> anyhow::Result<Running> {
    let sockets = sockets::bind_all(&settings)?;
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("doorward-control")
        .enable_all()
        .build()
        .context("cannot start the control runtime")?;
    let entered = control.enter();
    let mut built = build::build(&settings, &clock)?;
    drop(entered);
    let local = sockets::bind_admin_socket(&settings)?;
    let (local, admin_socket) = local.map(|local| (local.listener, local.file)).unzip();
    let (phase, phases) = watch::channel(Phase::Serve);
    control.spawn(keep_time(
        clock.clone(),
        built.shared.audit.clone(),
        phases.clone(),
    ));
    let upkeep = built.spawn_upkeep(&control, phases.clone());
    farewells::spawn(&control, (&settings, &built.shared), &phases);
    let mut workers = Vec::new();
    let (https, http, admin) = sockets.addresses()?;
    for (index, listeners) in sockets.https.into_iter().enumerate() {
        let worker = built.worker(index, &settings, phases.clone());
        workers.push(worker.spawn(listeners)?);
    }
    built.serve_plaintext(&control, sockets.http, &https, &phases)?;
    built.serve_admin(&control, (sockets.admin, local), &phases)?;
    Ok(Running {
        https,
        http,
        admin,
        admin_socket,
        sessions: built.shared.sessions.clone(),
        phase,
        draining: built.shared.draining.clone(),
        permits: built.permits,
        drain_timeout: settings.limits.drain_timeout,
        workers,
        control: Some(control),
        admin_state: built.admin,
        upkeep: Some(upkeep),
        audit: built.shared.audit.clone(),
        logs: built.logs,
    })
}

impl Running {
    /// Finishes what is under way, at most `drain_timeout` long, saves what is to be saved, and ends.
    pub fn stop(mut self) {
        self.admin_state.drain();
        self.draining.begin();
        self.phase.send_replace(Phase::Drain);
        let (permits, limit) = (self.permits.clone(), self.drain_timeout);
        if let Some(control) = &self.control {
            control.block_on(async {
                let drained = async {
                    while permits.open() > 0 {
                        tokio::time::sleep(TICK).await;
                    }
                };
                if tokio::time::timeout(limit, drained).await.is_err() {
                    tracing::warn!(open = permits.open(), "connections were cut off");
                }
            });
        }
        self.end();
    }

    fn end(&mut self) {
        self.phase.send_replace(Phase::Stop);
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                tracing::error!("a worker ended by a panic");
            }
        }
        if let Some(control) = self.control.take() {
            if let Some(upkeep) = self.upkeep.take() {
                // It saves what activity is left.
                let saved = control
                    .block_on(async { tokio::time::timeout(Duration::from_secs(5), upkeep).await });
                if saved.is_err() {
                    tracing::warn!("the last activity could not be saved in time");
                }
            }
            control.shutdown_timeout(Duration::from_secs(5));
        }
        self.audit.tell_all_left_out();
        for log in &self.logs {
            log.flush();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Refreshes the clock for everybody, and has the logs say what they left out.
async fn keep_time(clock: Clock, audit: Audit, mut phases: watch::Receiver<Phase>) {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                clock.tick();
                audit.tell_left_out();
                telemetry::tell_left_out(false);
            }
            stop = phases.wait_for(|phase| *phase == Phase::Stop) => {
                let _stopped = stop.is_ok();
                return;
            }
        }
    }
}
