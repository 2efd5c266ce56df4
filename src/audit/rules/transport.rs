//! What goes over a network unencrypted, and certificates (ASVS V12).

use std::net::IpAddr;
use std::time::Duration;

use super::{Judge, Routed, Rule};
use crate::audit::Severity::{self, High, Medium};
use crate::audit::facts::{CertificateFact, PublicKey};
use crate::audit::{Evidence, Fault};
use crate::config::StoreSettings;
use crate::routing::{Access, HostPattern};
use crate::session::store::{PostgresServer, RedisServers};
use crate::upstream::Address;

const DAY: Duration = Duration::from_hours(24);

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "upstream-plain",
        requirements: &["ASVS 12.3.1", "ASVS 12.3.3"],
        why: "Whoever is on the way reads what users do, and can say to the app that they are anybody.",
        judge: Judge::EachRoute(upstream_plain),
    },
    Rule {
        name: "store-plain",
        requirements: &["ASVS 12.3.1"],
        why: "Whoever is on the way learns the store's password, and can end every session.",
        judge: Judge::Whole(store_plain),
    },
    Rule {
        name: "admin-exposed",
        requirements: &["ASVS 13.4.5", "ASVS 12.3.1"],
        why: "This listener speaks plain http: its token, its sessions and its figures are for whoever reaches it or listens.",
        judge: Judge::Whole(admin_exposed),
    },
    Rule {
        name: "certificate-validity",
        requirements: &["ASVS 12.2.2"],
        why: "People learn to click a browser's warning away, and then click away the one that mattered.",
        judge: Judge::EachCertificate(certificate_validity),
    },
    Rule {
        name: "certificate-weak",
        requirements: &["ASVS 12.2.2", "ASVS 12.1.2"],
        why: "A key of this size, or a signature over that hash, can be broken.",
        judge: Judge::EachCertificate(certificate_weak),
    },
    Rule {
        name: "certificate-local",
        requirements: &["ASVS 12.2.2"],
        why: "Only machines that were told to trust the local authority do, and its key lies on this one.",
        judge: Judge::EachCertificate(certificate_local),
    },
    Rule {
        name: "host-without-certificate",
        requirements: &["ASVS 12.2.2"],
        why: "Browsers warn, and Doorward answers requests for this host with 421.",
        judge: Judge::EachRoute(host_without_certificate),
    },
    Rule {
        name: "proxies-broad",
        requirements: &["ASVS 15.3.4"],
        why: "Everybody in these networks may say where a request came from, to the throttle, the logs and the app.",
        judge: Judge::Whole(proxies_broad),
    },
];

/// How far away something is.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Reach {
    Machine,
    /// Addresses and names that no public network knows.
    Private,
    Public,
}

fn reach(address: &Address) -> Reach {
    match address {
        Address::Unix(_) => Reach::Machine,
        Address::Socket(socket) => reach_of(socket.ip()),
        Address::Name { host, .. } => reach_of_name(host),
    }
}

fn reach_of(ip: IpAddr) -> Reach {
    let ip = ip.to_canonical();
    let is_private = match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    };
    if ip.is_loopback() {
        Reach::Machine
    } else if is_private {
        Reach::Private
    } else {
        Reach::Public
    }
}

/// RFC 6761 section 6.3, RFC 6762, RFC 8375, and `.internal`, which ICANN keeps free.
fn reach_of_name(host: &str) -> Reach {
    let host = host.to_ascii_lowercase();
    let below = |suffixes: &[&str]| suffixes.iter().any(|suffix| host.ends_with(suffix));
    if host == "localhost" || below(&[".localhost"]) {
        Reach::Machine
    } else if !host.contains('.') || below(&[".internal", ".local", ".lan", ".home.arpa", ".test"])
    {
        Reach::Private
    } else {
        host.parse().map_or(Reach::Public, reach_of)
    }
}

fn upstream_plain(evidence: &Evidence<'_>, routed: &Routed<'_>) -> Option<Fault> {
    let target = evidence.settings.upstreams.get(routed.route.upstream?)?;
    let reach = reach(&target.address);
    if target.tls.is_some() || reach == Reach::Machine {
        return None;
    }
    let severity = match (reach, &routed.route.access) {
        (Reach::Public, Access::User | Access::Only { .. }) => High,
        _ => Medium,
    };
    let fault = Fault::new(severity, routed.key("upstream"), target.url.clone());
    Some(fault.advise("https with a `ca` of your own, a unix socket, or loopback"))
}

fn store_plain(evidence: &Evidence<'_>) -> Option<Fault> {
    let (hosts, is_sealed, advice) = match &evidence.settings.store {
        StoreSettings::Embedded { .. } | StoreSettings::Memory => return None,
        StoreSettings::Postgres(postgres) => {
            let hosts = match &postgres.server {
                PostgresServer::Tcp { host, .. } => vec![host.as_str()],
                PostgresServer::Socket { .. } => return None,
            };
            let advice = "no `sslmode=disable`, and `ca` where no public authority signs";
            (hosts, postgres.tls.is_some(), advice)
        }
        StoreSettings::Redis(redis) => {
            let hosts = match &redis.servers {
                RedisServers::One { host, .. } => vec![host.as_str()],
                RedisServers::Socket(_) => return None,
                RedisServers::Cluster(nodes)
                | RedisServers::Sentinel {
                    sentinels: nodes, ..
                } => nodes.iter().map(|(host, _)| host.as_str()).collect(),
            };
            let advice = "rediss://, with `ca` where no public authority signs";
            (hosts, redis.tls.is_some(), advice)
        }
    };
    let is_near = hosts
        .iter()
        .all(|host| reach_of_name(host) == Reach::Machine);
    if is_sealed || is_near {
        return None;
    }
    let found = format!("without TLS, to {}", hosts.join(", "));
    Some(Fault::new(High, "store.url", found).advise(advice))
}

fn admin_exposed(evidence: &Evidence<'_>) -> Option<Fault> {
    let settings = evidence.settings;
    let address = settings
        .admin_listen
        .filter(|address| reach_of(address.ip()) != Reach::Machine)?;
    let (severity, what) = if settings.admin_token.is_some() {
        (High, "health, metrics and the admin API")
    } else {
        (Medium, "health and metrics")
    };
    let fault = Fault::new(
        severity,
        "server.admin_listen",
        format!("{address}: {what}"),
    );
    Some(fault.advise(
        "an address of loopback; who watches from elsewhere comes through a route, or a tunnel",
    ))
}

fn certificate_validity(evidence: &Evidence<'_>, certificate: &CertificateFact) -> Option<Fault> {
    let now = evidence.facts.now;
    let (not_before, not_after) = (certificate.not_before, certificate.not_after);
    let days = not_after.since(now).as_secs() / DAY.as_secs();
    let (severity, state): (Severity, String) = if not_after <= now {
        (High, format!("expired on {not_after}"))
    } else if not_before > now {
        (High, format!("not valid before {not_before}"))
    } else if days < 7 {
        (High, format!("expires on {not_after}, in {days} days"))
    } else if days < 30 {
        (Medium, format!("expires on {not_after}, in {days} days"))
    } else {
        return None;
    };
    let set = format!("{}: {state}", certificate.name);
    let fault = Fault::new(severity, certificate.key.clone(), set);
    Some(fault.advise("renew it, and restart Doorward, which reads it at its start"))
}

fn certificate_weak(_: &Evidence<'_>, certificate: &CertificateFact) -> Option<Fault> {
    let what = match certificate.public_key {
        PublicKey::Rsa(bits) if bits < 2048 => format!("RSA of {bits} bits"),
        _ if certificate.has_old_signature => "a signature over SHA-1 or MD5".to_owned(),
        _ => return None,
    };
    let set = format!("{}: {what}", certificate.name);
    let fault = Fault::new(High, certificate.key.clone(), set);
    Some(fault.advise("ECDSA P-256, or RSA of 2048 bits or more, signed over SHA-256"))
}

fn certificate_local(evidence: &Evidence<'_>, certificate: &CertificateFact) -> Option<Fault> {
    let is_public = |host: &HostPattern| {
        let (HostPattern::Exact(name) | HostPattern::Wildcard(name)) = host;
        reach_of_name(name.trim_matches(['[', ']'])) == Reach::Public
    };
    let mut routes = evidence.settings.routes.iter();
    if !certificate.is_local || !routes.any(|route| is_public(&route.host)) {
        return None;
    }
    let set = format!(
        "{}: signed by an authority of `doorward cert`",
        certificate.name
    );
    let fault = Fault::new(Medium, certificate.key.clone(), set);
    Some(
        fault.advise("a certificate of a public authority, or of one that all your machines trust"),
    )
}

fn host_without_certificate(evidence: &Evidence<'_>, routed: &Routed<'_>) -> Option<Fault> {
    let host = routed.route.host.to_string();
    let first = evidence
        .settings
        .routes
        .iter()
        .position(|other| other.host == routed.route.host);
    // Told once for each host.
    if first != Some(routed.index) || !evidence.facts.hosts_without_certificate.contains(&host) {
        return None;
    }
    let fault = Fault::new(
        High,
        routed.key("host"),
        format!("{host}, which no certificate names"),
    );
    Some(fault.advise("a certificate with this name in it; `doorward cert` makes one for a start"))
}

fn proxies_broad(evidence: &Evidence<'_>) -> Option<Fault> {
    let severity = |network: &ipnet::IpNet| {
        let is_v4 = network.addr().is_ipv4();
        let (vast, wide) = if is_v4 { (8, 16) } else { (16, 32) };
        if network.prefix_len() < vast {
            Some(High)
        } else if network.prefix_len() < wide && reach_of(network.addr()) == Reach::Public {
            Some(Medium)
        } else {
            None
        }
    };
    let broad = evidence.settings.trusted_proxies.iter();
    let (severity, network) = broad
        .filter_map(|network| Some((severity(network)?, network)))
        .max_by_key(|(severity, _)| *severity)?;
    let fault = Fault::new(severity, "server.trusted_proxies", network.to_string());
    Some(fault.advise("the addresses of your own proxies, and no others"))
}
