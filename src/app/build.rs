//! Settings to objects.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use http::HeaderValue;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Phase;
use super::following::{follow_tokens, follow_users};
use super::ticketing::{self, TicketKeySource, follow_ticket_keys};
use super::ways;
use super::worker::Worker;
use crate::admin::{self, AdminState, Api, Node};
use crate::authority::{Authority, CertificateFiles};
use crate::clock::Clock;
use crate::config::{CertificateSource, Settings, StoreSettings};
use crate::deadline::Watch;
use crate::edge::{Certificates, Limits, Listener, Permits, Plaintext, Tls, serve_plaintext};
use crate::identity::Signer;
use crate::login::{Issuers, LocalUsers, Oidc, TokenBook};
use crate::pipeline::{Pipeline, Shared, Stripped};
use crate::portal::{Pages, Portal};
use crate::routing::RouteTable;
use crate::secret::Keyring;
#[cfg(feature = "postgres")]
use crate::session::store::Postgres;
#[cfg(feature = "redis")]
use crate::session::store::Redis;
use crate::session::store::{Embedded, Memory, SessionStore, StoreError};
use crate::session::{CookieName, Parts, Sessions, Touches};
use crate::telemetry::{AccessLog, Audit, LineWriter, Metrics};
use crate::upstream::Upstreams;
use crate::wire::RequestIds;

#[derive(Debug)]
pub(super) struct Built {
    pub(super) shared: Arc<Shared>,
    pub(super) admin: Arc<AdminState>,
    pub(super) permits: Arc<Permits>,
    pub(super) logs: Vec<LineWriter>,
    access: LineWriter,
    tls: Arc<Tls>,
    limits: Arc<Limits>,
    touches: Option<Touches>,
    users: Option<Arc<LocalUsers>>,
    oidc: Vec<Arc<Oidc>>,
    ticket_keys: Option<TicketKeySource>,
}

pub(super) fn build(settings: &Settings, clock: &Clock) -> anyhow::Result<Built> {
    let metrics = Arc::new(Metrics::new());
    let access = LineWriter::open(&settings.log.access).context("cannot open the access log")?;
    let audit_lines = LineWriter::open(&settings.log.audit).context("cannot open the audit log")?;
    metrics.watch_log("access", &access);
    metrics.watch_log("audit", &audit_lines);
    let audit = Audit::new(audit_lines.clone(), clock.clone());
    let keyring = Arc::new(
        Keyring::new(settings.secrets.clone()).context("the session secrets cannot be used")?,
    );
    let ids: Vec<_> = keyring.ids().map(|id| id.to_string()).collect();
    tracing::info!(
        secrets = ids.join(" "),
        "sessions are sealed under the first of these"
    );
    let store = open_store(&settings.store)?;
    let (sessions, touches) = Sessions::new(Parts {
        store: store.clone(),
        keyring: keyring.clone(),
        settings: settings.session.clone(),
        tickets: ticketing::tickets(settings, &keyring)?,
        clock: clock.clone(),
        audit: audit.clone(),
        metrics: metrics.clone(),
        background: Handle::current(),
    });
    let ways = ways::build(settings, (clock, &keyring))?;
    let signer = signer(settings, &keyring)?;
    let portal = Arc::new(Portal {
        sessions: sessions.clone(),
        keyring,
        audit: audit.clone(),
        metrics: metrics.clone(),
        pages: Pages::new(),
        providers: ways.providers,
        accounts: ways.users.clone(),
        passkeys: ways.passkeys,
        browser_cookie: own_cookie(&settings.session.cookie, "browser")?,
        pending_cookie: own_cookie(&settings.session.cookie, "login")?,
        clear_site_data: settings.clear_site_data.clone(),
        keys: signer.as_ref().map(|signer| signer.published().clone()),
        edges: settings.edge_hosts.clone(),
        edge: ticketing::edge(settings)?,
    });
    let api = Api {
        sessions,
        audit: audit.clone(),
        token: settings.admin_token.clone(),
        node: Node {
            config: settings.fingerprint.clone(),
            started: clock.now(),
        },
    };
    let tls = Arc::new(Tls::new(certificates(settings, clock)?)?);
    let shared = share(settings, clock, (portal, audit, metrics.clone()), signer)?;
    Ok(Built {
        shared: Arc::new(shared),
        admin: Arc::new(AdminState::new(metrics, store).with_api(api)),
        permits: Arc::default(),
        logs: vec![access.clone(), audit_lines],
        access,
        tls,
        limits: Arc::new(settings.limits.clone()),
        touches: Some(touches),
        users: ways.users,
        oidc: ways.oidc,
        ticket_keys: TicketKeySource::of(settings)?,
    })
}

fn share(
    settings: &Settings,
    clock: &Clock,
    (portal, audit, metrics): (Arc<Portal>, Audit, Arc<Metrics>),
    signer: Option<Arc<Signer>>,
) -> anyhow::Result<Shared> {
    let routes = RouteTable::new(settings.routes.clone())?;
    // In the order of the file, as the table counts them.
    let named = settings.routes.iter();
    let route_metrics = named.map(|route| metrics.route(&route.id)).collect();
    let stripped = Arc::new(Stripped::new(&settings.identity));
    let age = settings.hsts_max_age();
    let hsts = (age > 0)
        .then(|| HeaderValue::try_from(format!("max-age={age}")))
        .transpose()?;
    Ok(Shared {
        clock: clock.clone(),
        routes,
        route_metrics,
        sessions: portal.sessions.clone(),
        cookie_names: portal.cookie_names(),
        portal,
        tokens: tokens(settings),
        issuers: issuers(settings, clock)?,
        layout: settings.identity.clone(),
        signer,
        trailers: stripped.trailer_filter(),
        stripped,
        forwarding: settings.forwarding,
        trusted_proxies: settings.trusted_proxies.clone(),
        hsts,
        max_headers: settings.limits.max_headers,
        body_patience: settings.limits.body_idle_timeout,
        audit,
        metrics,
        draining: Arc::default(),
        ids: RequestIds::default(),
    })
}

/// Where some route's app gets assertions.
fn signer(settings: &Settings, keyring: &Keyring) -> anyhow::Result<Option<Arc<Signer>>> {
    let is_used = settings
        .routes
        .iter()
        .any(|route| route.assertion.is_some());
    let signer = is_used.then(|| Signer::new(settings.assertion.clone(), keyring));
    Ok(signer.transpose()?.map(Arc::new))
}

/// Where some route takes their tokens.
fn issuers(settings: &Settings, clock: &Clock) -> anyhow::Result<Option<Arc<Issuers>>> {
    let mut clients = settings
        .routes
        .iter()
        .filter_map(|route| route.clients.as_ref());
    let is_used = clients.any(|clients| !clients.issuers.is_empty());
    let runtime = Handle::current();
    let issuers = is_used.then(|| Issuers::new(&settings.issuers, (clock.clone(), &runtime)));
    let issuers = issuers.transpose();
    Ok(issuers
        .context("the issuers of `clients` cannot be asked")?
        .map(Arc::new))
}

/// Where some route takes them.
fn tokens(settings: &Settings) -> Option<Arc<TokenBook>> {
    let mut clients = settings
        .routes
        .iter()
        .filter_map(|route| route.clients.as_ref());
    let is_used = clients.any(|clients| clients.tokens || clients.basic);
    is_used.then(|| Arc::new(TokenBook::open(settings.tokens.clone())))
}

/// Beside the session's own cookie, for one host alone.
fn own_cookie(session: &CookieName, what: &str) -> anyhow::Result<CookieName> {
    CookieName::new(&format!("{}-{what}", session.base()), None)
        .context("the name of the session cookie is too long")
}

fn open_store(settings: &StoreSettings) -> anyhow::Result<Arc<dyn SessionStore>> {
    Ok(match settings {
        StoreSettings::Memory => Arc::new(Memory::new()),
        StoreSettings::Embedded { path } => {
            let store = Embedded::open(path);
            Arc::new(store.map_err(|error| cannot_open(path, &error))?)
        }
        #[cfg(feature = "postgres")]
        StoreSettings::Postgres(settings) => Arc::new(Postgres::open(settings)),
        #[cfg(not(feature = "postgres"))]
        StoreSettings::Postgres(_) => anyhow::bail!("this build has no postgres"),
        #[cfg(feature = "redis")]
        StoreSettings::Redis(settings) => Arc::new(Redis::open(settings)),
        #[cfg(not(feature = "redis"))]
        StoreSettings::Redis(_) => anyhow::bail!("this build has no redis"),
    })
}

/// Damage does not go away by itself, so it is said what to do about it.
fn cannot_open(path: &Path, error: &StoreError) -> anyhow::Error {
    let advice = match error {
        StoreError::Damaged(_) => {
            "; move it away and start again: everybody logs in anew then, and nothing else is lost"
        }
        _ => "",
    };
    anyhow::anyhow!(
        "cannot open the session store {}: {error}{advice}",
        path.display()
    )
}

/// Whether the configured files hold certificates and their keys. Nothing is made where there are none.
pub fn check_certificates(settings: &Settings, clock: &Clock) -> anyhow::Result<()> {
    match &settings.tls.source {
        CertificateSource::Files(_) => certificates(settings, clock).map(drop),
        CertificateSource::LocalAuthority(_) => Ok(()),
    }
}

fn certificates(settings: &Settings, clock: &Clock) -> anyhow::Result<Certificates> {
    match &settings.tls.source {
        CertificateSource::Files(files) => Ok(Certificates::load(files, clock.now())?),
        CertificateSource::LocalAuthority(folder) => {
            let authority = Authority::open_or_create(folder, clock.now())?;
            let files = CertificateFiles {
                cert: folder.join("site.pem"),
                key: folder.join("site.key"),
            };
            authority.issue_files(&files, &settings.hosts(), clock.now())?;
            Ok(Certificates::load(&[(files.cert, files.key)], clock.now())?)
        }
    }
}

impl Built {
    pub(super) fn worker(
        &self,
        index: usize,
        settings: &Settings,
        phases: watch::Receiver<Phase>,
    ) -> Worker {
        let watch = Watch::default();
        Worker {
            index,
            listener: Listener {
                tls: self.tls.clone(),
                limits: self.limits.clone(),
                watch: watch.clone(),
                permits: self.permits.clone(),
                draining: self.shared.draining.clone(),
                metrics: self.shared.metrics.clone(),
            },
            pipeline: Pipeline {
                shared: self.shared.clone(),
                upstreams: Arc::new(Upstreams::new(&settings.upstreams, &watch)),
                access: Arc::new(AccessLog::new(
                    self.access.clone(),
                    settings.log.access_format,
                )),
            },
            phases,
        }
    }

    /// Ends when the process stops, after it has saved what is left.
    pub(super) fn spawn_upkeep(
        &mut self,
        control: &Runtime,
        mut phases: watch::Receiver<Phase>,
    ) -> JoinHandle<()> {
        let sessions = self.shared.sessions.clone();
        if let Some(users) = self.users.clone() {
            let follow = follow_users(sessions.clone(), users);
            control.spawn(while_serving(follow, phases.clone()));
        }
        if let Some(tokens) = self.shared.tokens.clone() {
            control.spawn(while_running(follow_tokens(tokens), phases.clone()));
        }
        let issuers = self.shared.issuers.as_ref();
        for issuer in issuers.map(|issuers| issuers.all()).unwrap_or_default() {
            let (issuer, clock) = (issuer.clone(), self.shared.clock.clone());
            let following = async move { issuer.follow(&clock).await };
            control.spawn(while_running(following, phases.clone()));
        }
        for oidc in self.oidc.clone() {
            control.spawn(while_running(
                async move { oidc.follow().await },
                phases.clone(),
            ));
        }
        if let Some(source) = self.ticket_keys.take() {
            let follow = follow_ticket_keys(sessions.clone(), source);
            control.spawn(while_running(follow, phases.clone()));
        }
        let ends = sessions.clone().run_ends();
        control.spawn(while_running(ends, phases.clone()));
        let touches = self.touches.take();
        control.spawn(async move {
            let Some(mut touches) = touches else { return };
            tokio::select! {
                () = sessions.clone().run_upkeep(&mut touches) => {}
                stop = phases.wait_for(|phase| *phase == Phase::Stop) => drop(stop),
            }
            sessions.settle(&mut touches).await;
        })
    }

    pub(super) fn serve_plaintext(
        &self,
        control: &Runtime,
        sockets: Vec<TcpListener>,
        https: &[SocketAddr],
        phases: &watch::Receiver<Phase>,
    ) -> anyhow::Result<()> {
        let _entered = control.enter();
        let shared = self.shared.clone();
        let plaintext = Arc::new(Plaintext {
            https_port: https.first().map_or(443, SocketAddr::port),
            serves: Box::new(move |host| shared.routes.serves(host)),
            limits: (*self.limits).clone(),
        });
        for socket in sockets {
            let socket = tokio::net::TcpListener::from_std(socket)?;
            let serving = serve_plaintext(socket, plaintext.clone(), self.permits.clone());
            control.spawn(while_serving(serving, phases.clone()));
        }
        Ok(())
    }

    pub(super) fn serve_admin(
        &self,
        control: &Runtime,
        (socket, local): (Option<TcpListener>, Option<UnixListener>),
        phases: &watch::Receiver<Phase>,
    ) -> anyhow::Result<()> {
        let _entered = control.enter();
        // It answers until the very end: whoever asks is to see that we drain.
        let stopped = || {
            let mut phases = phases.clone();
            async move { drop(phases.wait_for(|phase| *phase == Phase::Stop).await) }
        };
        if let Some(socket) = socket {
            let socket = tokio::net::TcpListener::from_std(socket)?;
            control.spawn(admin::serve(socket, self.admin.clone(), stopped()));
        }
        if let Some(local) = local {
            let local = tokio::net::UnixListener::from_std(local)?;
            control.spawn(admin::serve(local, self.admin.clone(), stopped()));
        }
        Ok(())
    }
}

async fn while_serving(work: impl Future<Output = ()>, mut phases: watch::Receiver<Phase>) {
    tokio::select! {
        () = work => {}
        over = phases.wait_for(|phase| *phase != Phase::Serve) => drop(over),
    }
}

/// Streams are open, and sessions end, while the rest drains.
pub(super) async fn while_running(
    work: impl Future<Output = ()>,
    mut phases: watch::Receiver<Phase>,
) {
    tokio::select! {
        () = work => {}
        over = phases.wait_for(|phase| *phase == Phase::Stop) => drop(over),
    }
}
