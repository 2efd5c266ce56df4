//! One worker: a thread, a runtime, its own sockets, its own connections to the apps.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Phase;
use crate::clock::TICK;
use crate::edge::Listener;
use crate::pipeline::Pipeline;

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) listener: Listener,
    pub(super) pipeline: Pipeline,
    pub(super) phases: watch::Receiver<Phase>,
}

impl Worker {
    pub(super) fn spawn(self, sockets: Vec<TcpListener>) -> anyhow::Result<JoinHandle<()>> {
        let name = format!("doorward-{}", self.index);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.context("cannot start a worker's runtime")?;
        let serve = move || {
            if let Err(error) = runtime.block_on(self.serve(sockets)) {
                tracing::error!(%error, "a worker cannot serve");
            }
            // Dropped, it would wait for lookups of names, which take as long as the system likes.
            runtime.shutdown_background();
        };
        std::thread::Builder::new()
            .name(name)
            .spawn(serve)
            .context("cannot start a worker")
    }

    async fn serve(self, sockets: Vec<TcpListener>) -> std::io::Result<()> {
        let Self {
            listener,
            pipeline,
            mut phases,
            ..
        } = self;
        let (listener, watch) = (Arc::new(listener), pipeline.upstreams.watch().clone());
        let access = pipeline.access.clone();
        let connect = Arc::new(pipeline);
        let mut accepting = JoinSet::new();
        for socket in sockets {
            let socket = tokio::net::TcpListener::from_std(socket)?;
            let (listener, connect) = (listener.clone(), connect.clone());
            accepting.spawn(async move { listener.run(socket, connect).await });
        }
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    watch.tick();
                    access.flush();
                }
                changed = phases.changed() => match (changed, *phases.borrow()) {
                    (Ok(()), Phase::Serve) => {}
                    (Ok(()), Phase::Drain) => accepting.abort_all(),
                    (_, Phase::Stop) | (Err(_), _) => break,
                },
            }
        }
        access.flush();
        Ok(())
    }
}
