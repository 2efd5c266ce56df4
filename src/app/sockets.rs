//! Every socket of a configuration, bound before anything runs.

use std::net::{SocketAddr, TcpListener};

use anyhow::Context;

use crate::admin::{LocalSocket, bind_local};
use crate::config::Settings;
use crate::edge::bind;

#[derive(Debug)]
pub(super) struct Sockets {
    /// One list of listeners for each worker.
    pub(super) https: Vec<Vec<TcpListener>>,
    pub(super) http: Vec<TcpListener>,
    pub(super) admin: Option<TcpListener>,
}

pub(super) fn bind_all(settings: &Settings) -> anyhow::Result<Sockets> {
    let mut https: Vec<Vec<TcpListener>> = (0..settings.workers).map(|_| Vec::new()).collect();
    for addr in &settings.listen {
        // Port 0 is chosen once; the other workers join the first.
        let mut addr = *addr;
        probe(addr)?;
        for worker in &mut https {
            let socket = bind(addr).with_context(|| format!("cannot listen on {addr}"))?;
            addr = socket.local_addr()?;
            worker.push(socket);
        }
    }
    let plain = |addr: &SocketAddr| {
        probe(*addr)?;
        bind(*addr).with_context(|| format!("cannot listen on {addr}"))
    };
    Ok(Sockets {
        https,
        http: settings
            .http_listen
            .iter()
            .map(plain)
            .collect::<Result<_, _>>()?,
        admin: settings.admin_listen.as_ref().map(plain).transpose()?,
    })
}

/// The unix socket for commands on this machine. To be bound once the store is ours: only then is a socket that is there
/// surely not that of another process with the same store. Where nobody asked for it, it is no reason not to serve.
pub(super) fn bind_admin_socket(settings: &Settings) -> anyhow::Result<Option<LocalSocket>> {
    let Some(wanted) = &settings.admin_socket else {
        return Ok(None);
    };
    let path = wanted.path.display();
    match bind_local(&wanted.path) {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if wanted.is_named => {
            Err(error).with_context(|| format!("cannot listen on {path} (`admin_socket`)"))
        }
        Err(error) => {
            tracing::warn!(
                "cannot listen on {path}: {error}; `doorward session` needs it, and `admin_socket` in [server] names another place"
            );
            Ok(None)
        }
    }
}

/// Sockets that share a port with another process would take turns with it. One that does not share finds out.
fn probe(addr: SocketAddr) -> anyhow::Result<()> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(addr),
        socket2::Type::STREAM,
        None,
    )?;
    socket.set_reuse_address(true)?;
    socket
        .bind(&addr.into())
        .with_context(|| format!("cannot listen on {addr}"))
}

type Addresses = (Vec<SocketAddr>, Vec<SocketAddr>, Option<SocketAddr>);

impl Sockets {
    pub(super) fn addresses(&self) -> std::io::Result<Addresses> {
        let of = |sockets: &[TcpListener]| {
            sockets
                .iter()
                .map(TcpListener::local_addr)
                .collect::<Result<_, _>>()
        };
        let https = of(self.https.first().map_or(&[], Vec::as_slice))?;
        let admin = self
            .admin
            .as_ref()
            .map(TcpListener::local_addr)
            .transpose()?;
        Ok((https, of(&self.http)?, admin))
    }
}
