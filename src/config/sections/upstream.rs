//! A route's `upstream`: the address of an app, and how its certificate is judged. Equal ones are one target.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

use crate::config::reader::{Value, quoted};
use crate::upstream::{Address, Target, TargetTls};

const EXAMPLES: &str =
    "like \"http://127.0.0.1:3000\", \"https://app.internal:8443\" or \"unix:/run/app.sock\"";

/// Idle connections that each worker keeps to an app.
const MAX_IDLE: usize = 512;

/// Connections that each worker has to an app at once, idle or not.
const MAX_CONNECTIONS: usize = 1024;

/// Every target so far.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    targets: Vec<Target>,
    /// What each of them was made from.
    wishes: Vec<Wish>,
    system_roots: Option<RootCertStore>,
}

/// All that tells targets apart.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Wish {
    place: Place,
    ca: Option<PathBuf>,
    server_name: Option<ServerName<'static>>,
    max_idle: usize,
    max_connections: usize,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Place {
    url: String,
    address: Address,
    authority: String,
    /// The name that an `https` app has to prove.
    tls: Option<ServerName<'static>>,
}

impl Upstreams {
    /// The index of the target that a route asks for: a URL, or a table with one.
    pub(super) fn add(&mut self, value: &Value<'_>) -> Option<usize> {
        let (wish, ca) = if value.as_table().is_some() {
            from_table(value)?
        } else {
            (from_url(value)?, None)
        };
        if let Some(index) = self.wishes.iter().position(|known| *known == wish) {
            return Some(index);
        }
        let tls = match wish.server_name.clone().or_else(|| wish.place.tls.clone()) {
            Some(name) => {
                let roots = match (&wish.ca, &ca) {
                    (Some(path), Some(value)) => private_roots(value, path)?,
                    _ => self.system_roots(value)?,
                };
                Some(TargetTls {
                    config: client(value, roots)?,
                    name,
                })
            }
            None => None,
        };
        let Place {
            url,
            address,
            authority,
            ..
        } = wish.place.clone();
        self.targets.push(Target {
            max_connections: wish.max_connections,
            url,
            address,
            authority,
            tls,
            max_idle: wish.max_idle,
        });
        self.wishes.push(wish);
        Some(self.targets.len() - 1)
    }

    pub(super) fn target(&self, index: usize) -> Option<&Target> {
        self.targets.get(index)
    }

    pub(super) fn into_targets(self) -> Vec<Target> {
        self.targets
    }

    /// Read once: it is a file of a few hundred certificates.
    fn system_roots(&mut self, value: &Value<'_>) -> Option<RootCertStore> {
        let roots = self.system_roots.get_or_insert_with(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        });
        if roots.is_empty() {
            let complaint = value.wrong(
                "this system has no list of trusted authorities to judge the certificate by",
            );
            complaint.help("install ca-certificates, or name one: `upstream = { url = \"https://…\", ca = \"ca.pem\" }`").push();
        }
        Some(roots.clone()).filter(|roots| !roots.is_empty())
    }
}

fn from_url(value: &Value<'_>) -> Option<Wish> {
    Some(Wish {
        place: place(value)?,
        ca: None,
        server_name: None,
        max_idle: MAX_IDLE,
        max_connections: MAX_CONNECTIONS,
    })
}

/// `{ url = …, ca = …, server_name = …, … }`, and the value that names the authority.
fn from_table<'a>(value: &Value<'a>) -> Option<(Wish, Option<Value<'a>>)> {
    let section = value.section()?;
    let place = section
        .required("url", "url = \"https://app.internal:8443\"")
        .map(|url| place(&url));
    let (ca, name) = (section.value("ca"), section.value("server_name"));
    let server_name = name.as_ref().and_then(server_name);
    let max_idle = section
        .integer_in("max_idle", 0..=10_000)
        .unwrap_or(MAX_IDLE);
    let max_connections = section.integer_in("max_connections", 1..=100_000);
    let max_connections = max_connections.unwrap_or(MAX_CONNECTIONS);
    let path = section.path_to("ca");
    section.finish();
    let place = place??;
    if place.tls.is_none() {
        for useless in [&ca, &name].into_iter().flatten() {
            let complaint = useless
                .wrong(format!("{} shows no certificate", place.url))
                .at_key();
            complaint.help("remove it, or use https").push();
        }
        let ca = None;
        return Some((
            Wish {
                place,
                ca,
                server_name: None,
                max_idle,
                max_connections,
            },
            None,
        ));
    }
    let wish = Wish {
        place,
        ca: path,
        server_name,
        max_idle,
        max_connections,
    };
    Some((wish, ca))
}

fn server_name(value: &Value<'_>) -> Option<ServerName<'static>> {
    let text = value.text()?;
    let name = ServerName::try_from(text.to_owned()).ok();
    if name.is_none() {
        let complaint = value.wrong(format!("{} is not the name in a certificate", quoted(text)));
        complaint
            .help("a host name without scheme or port, like \"app.internal\"")
            .push();
    }
    name
}

fn place(value: &Value<'_>) -> Option<Place> {
    let text = value.text()?;
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(value, path);
    }
    let Some(url) = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
    else {
        let complaint = value.wrong(format!("{} is not the address of an app", quoted(text)));
        match Url::parse(&format!("http://{text}")) {
            Ok(url) if url.port().is_some() && !text.contains("//") => {
                complaint
                    .help(format!("write \"http://{}\"", text.escape_debug()))
                    .push();
            }
            _ => complaint.help(EXAMPLES).push(),
        }
        return None;
    };
    if !is_bare(value, &url) {
        return None;
    }
    let (host, port) = (url.host()?.to_owned(), url.port_or_known_default()?);
    let authority = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_string(),
    };
    let (address, name) = match host {
        Host::Domain(name) => (
            Address::Name {
                host: name.clone(),
                port,
            },
            ServerName::try_from(name).ok(),
        ),
        Host::Ipv4(ip) => (
            Address::Socket(SocketAddr::from((ip, port))),
            Some(IpAddr::from(ip).into()),
        ),
        Host::Ipv6(ip) => (
            Address::Socket(SocketAddr::from((ip, port))),
            Some(IpAddr::from(ip).into()),
        ),
    };
    let tls = name.filter(|_| url.scheme() == "https");
    if tls.is_none() && url.scheme() == "https" {
        value
            .wrong(format!("no certificate can name {}", quoted(&authority)))
            .help(EXAMPLES)
            .push();
        return None;
    }
    Some(Place {
        url: format!("{}://{authority}", url.scheme()),
        address,
        authority,
        tls,
    })
}

/// Nothing but a scheme, a host and a port.
fn is_bare(value: &Value<'_>, url: &Url) -> bool {
    if !url.username().is_empty() || url.password().is_some() {
        value.report().blot_out(value.place());
        let complaint = value.wrong("a user and password cannot stand in this file");
        complaint
            .help("let the app trust doorward's header fields instead, or its network")
            .push();
        return false;
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        let complaint = value.wrong("an app is addressed by scheme, host and port alone");
        complaint
            .help(format!(
                "for a path in front of the request's: `add_prefix = \"{}\"`",
                url.path()
            ))
            .push();
        return false;
    }
    true
}

fn unix(value: &Value<'_>, path: &str) -> Option<Place> {
    if path.trim_start_matches('/').is_empty() || path.contains('\0') {
        value
            .wrong("names no socket")
            .help("like \"unix:/run/app.sock\"")
            .push();
        return None;
    }
    // `unix:///run/app.sock` is how others write it.
    let path = path.strip_prefix("//").unwrap_or(path);
    let path = value.report().folder().join(path);
    Some(Place {
        url: format!("unix:{}", path.display()),
        address: Address::Unix(path),
        authority: "localhost".to_owned(),
        tls: None,
    })
}

fn private_roots(value: &Value<'_>, path: &std::path::Path) -> Option<RootCertStore> {
    let trouble = match CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
    {
        Err(error) => format!("cannot be read: {error}"),
        Ok(certificates) => {
            let mut roots = RootCertStore::empty();
            let (added, refused) = roots.add_parsable_certificates(certificates);
            if added > 0 && refused == 0 {
                return Some(roots);
            }
            "holds no certificate of an authority that could be used".to_owned()
        }
    };
    let complaint = value.wrong(format!("{} {trouble}", path.display()));
    complaint
        .help("a PEM file with the certificate of the authority that signed the app's")
        .push();
    None
}

fn client(value: &Value<'_>, roots: RootCertStore) -> Option<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        match ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions() {
            Ok(builder) => builder,
            Err(error) => {
                value.wrong(format!("TLS cannot be set up: {error}")).push();
                return None;
            }
        };
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Some(Arc::new(config))
}
