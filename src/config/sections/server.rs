//! `[server]`: where to listen, and whom to believe about where a request came from.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use ipnet::IpNet;

use super::admin;
use crate::config::reader::{Section, Value};
use crate::identity::Forwarding;
use crate::secret::Secret;

#[derive(Debug)]
pub(super) struct Server {
    pub(super) listen: Vec<SocketAddr>,
    pub(super) http_listen: Vec<SocketAddr>,
    pub(super) admin_listen: Option<SocketAddr>,
    pub(super) admin_token: Option<Secret>,
    pub(super) admin_socket: admin::Socket,
    pub(super) trusted_proxies: Vec<IpNet>,
    pub(super) workers: usize,
    pub(super) forwarding: Forwarding,
}

pub(super) fn read(section: Section<'_>) -> Server {
    let listen = section.addresses("listen");
    if section
        .required("listen", "listen = \"0.0.0.0:8443\"")
        .is_some_and(|value| value.one_or_list().is_empty())
    {
        section
            .missing("listen", "names no address")
            .help("for example `listen = \"0.0.0.0:8443\"`")
            .push();
    }
    let http_listen = section.addresses("http_listen");
    let admin_listen = section
        .value("admin_listen")
        .and_then(|value| Some((value.address()?, value)));
    refuse_twins(
        &listen
            .iter()
            .chain(&http_listen)
            .chain(&admin_listen)
            .collect::<Vec<_>>(),
    );
    let trusted = section
        .value("trusted_proxies")
        .map(|value| value.one_or_list())
        .unwrap_or_default();
    let workers = section.integer_in("workers", 0..=1024).unwrap_or(0);
    let server = Server {
        listen: only_addresses(listen),
        http_listen: only_addresses(http_listen),
        admin_listen: admin_listen.map(|(address, _)| address),
        admin_token: admin::token(&section),
        admin_socket: admin::Socket::read(&section),
        trusted_proxies: trusted.iter().filter_map(Value::network).collect(),
        workers: if workers == 0 { cores() } else { workers },
        forwarding: forwarding(&section),
    };
    section.finish();
    server
}

fn forwarding(section: &Section<'_>) -> Forwarding {
    let choices = [
        ("both", Forwarding::Both),
        ("forwarded", Forwarding::Forwarded),
        ("x-forwarded", Forwarding::XForwarded),
    ];
    section.choice("forwarding", &choices).unwrap_or_default()
}

fn only_addresses(placed: Vec<(SocketAddr, Value<'_>)>) -> Vec<SocketAddr> {
    placed.into_iter().map(|(address, _)| address).collect()
}

/// Only one listener can have an address. Port 0 is another one each time.
fn refuse_twins(placed: &[&(SocketAddr, Value<'_>)]) {
    let mut seen: Vec<&(SocketAddr, Value<'_>)> = Vec::new();
    for entry in placed.iter().filter(|(address, _)| address.port() != 0) {
        let (address, value) = entry;
        if let Some((_, first)) = seen.iter().find(|(other, _)| other == address) {
            let line = value.report().line(&first.place());
            let complaint = value.wrong(format!("{address} is taken already, on line {line}"));
            complaint
                .other(first.place(), "first here")
                .help("give each listener its own port")
                .push();
        }
        seen.push(entry);
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
