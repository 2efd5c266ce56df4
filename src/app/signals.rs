//! When to stop: SIGTERM and Ctrl-C drain, a second one does not wait. SIGHUP is a terminal that closes, and stops too;
//! a service has no terminal, and whoever sends it one expects anything but an end.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Running;

/// The signals that ask to stop. From the moment that this is made, none of them kills the process by itself.
#[derive(Debug)]
pub struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    has_terminal: bool,
}

impl Signals {
    /// To be made before anything that is to be stopped in good order.
    pub fn catch() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.context("cannot wait for signals")?;
        let within = runtime.enter();
        let terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
        let hangup = signal(SignalKind::hangup()).context("cannot catch SIGHUP")?;
        drop(within);
        Ok(Self {
            runtime,
            terminate,
            interrupt,
            hangup,
            has_terminal: std::io::stdin().is_terminal(),
        })
    }

    /// Blocks until one comes, then stops.
    pub fn run(self, running: Running) {
        let Self {
            runtime,
            mut terminate,
            mut interrupt,
            mut hangup,
            has_terminal,
        } = self;
        runtime.block_on(async {
            loop {
                tokio::select! {
                    () = either(&mut terminate, &mut interrupt) => break,
                    _ = hangup.recv() => {
                        if has_terminal {
                            break;
                        }
                        tracing::warn!("SIGHUP reloads nothing; a restart reads what has changed");
                    }
                }
            }
            tracing::info!("stopping; once more stops at once");
            let stopping = std::thread::spawn(move || running.stop());
            let stopped = async {
                while !stopping.is_finished() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::select! {
                () = stopped => {}
                () = either(&mut terminate, &mut interrupt) => {}
            }
        });
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
