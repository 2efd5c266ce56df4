//! When to stop: SIGTERM and Ctrl-C drain, a second one does not wait.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::Running;

/// Blocks until a signal asks to stop, then stops.
pub fn run_until_signalled(running: Running) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("cannot wait for signals")?;
    let mut signals = runtime.block_on(async {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok::<_, std::io::Error>((terminate, interrupt))
    })?;
    runtime.block_on(either(&mut signals));
    tracing::info!("stopping; once more stops at once");
    let stopping = std::thread::spawn(move || running.stop());
    runtime.block_on(async {
        let stopped = async {
            while !stopping.is_finished() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = stopped => {}
            () = either(&mut signals) => {}
        }
    });
    Ok(())
}

type Signals = (tokio::signal::unix::Signal, tokio::signal::unix::Signal);

async fn either((terminate, interrupt): &mut Signals) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
