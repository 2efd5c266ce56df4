//! From settings to a connection: one server, the one that the sentinels name, or a Cluster. It knows no command of ours.

use std::fmt;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo, Pipeline,
    ProtocolVersion, PushInfo, RedisConnectionInfo, RedisFuture, RedisResult, TlsCertificates,
    Value,
};

use super::settings::{Servers, Settings};
use crate::secret::Secret;

/// What happens with the messages that a server sends by itself. It must not wait.
pub(super) type OnPush = Box<dyn Fn(PushInfo) + Send + Sync>;

/// Attempts of one command in a Cluster that is changing, before its caller hears of it.
const CLUSTER_RETRIES: u32 = 3;

/// One connection, or those to all nodes of a Cluster. Clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    /// Opens one; no step of it and no answer later takes longer than `patience`.
    pub(super) async fn open(
        settings: &Settings,
        patience: Duration,
        on_push: OnPush,
    ) -> RedisResult<Self> {
        let on_push = move |push| -> Result<(), ()> {
            on_push(push);
            Ok(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(patience))
            .set_response_timeout(Some(patience));
        match &settings.servers {
            Servers::Cluster(nodes) => {
                let client = cluster(settings, nodes, patience)?
                    .push_sender(on_push)
                    .build()?;
                let connection = client.get_async_connection().await?;
                Ok(Self::Cluster(connection))
            }
            servers => {
                let config = config.set_push_sender(on_push);
                let client = match servers {
                    Servers::Sentinel {
                        sentinels,
                        name,
                        password,
                    } => named(settings, (sentinels, name, password.as_ref())).await?,
                    Servers::Socket(path) => client(settings, ConnectionAddr::Unix(path.clone()))?,
                    Servers::One { host, port } => {
                        client(settings, address(settings, host, *port))?
                    }
                    Servers::Cluster(_) => return Err(no_node()),
                };
                let connection = client.get_multiplexed_async_connection_with_config(&config);
                Ok(Self::Node(connection.await?))
            }
        }
    }

    pub(super) async fn subscribe(&mut self, channels: &[String]) -> RedisResult<()> {
        match self {
            Self::Node(connection) => connection.subscribe(channels).await,
            Self::Cluster(connection) => connection.subscribe(channels).await,
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Node(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Node(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Node(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node(_) => "Node(..)",
            Self::Cluster(_) => "Cluster(..)",
        })
    }
}

fn client(settings: &Settings, address: ConnectionAddr) -> RedisResult<Client> {
    let info = address
        .into_connection_info()?
        .set_redis_settings(identity(settings));
    match certificates(settings) {
        Some(certificates) if !matches!(settings.servers, Servers::Socket(_)) => {
            Client::build_with_tls(info, certificates)
        }
        _ => Client::open(info),
    }
}

async fn named(
    settings: &Settings,
    (sentinels, name, password): (&[(String, u16)], &str, Option<&Secret>),
) -> RedisResult<Client> {
    let addresses = sentinels
        .iter()
        .map(|(host, port)| address(settings, host, *port));
    let mut builder = SentinelClientBuilder::new(addresses, name, SentinelServerType::Master)?
        .set_client_to_redis_protocol(ProtocolVersion::RESP3)
        .set_client_to_redis_db(settings.database);
    if let Some(user) = &settings.user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = text(settings.password.as_ref()) {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(password) = text(password) {
        builder = builder.set_client_to_sentinel_password(password);
    }
    if let Some(certificates) = certificates(settings) {
        builder = builder
            .set_client_to_redis_tls_mode(redis::TlsMode::Secure)
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_tls_mode(redis::TlsMode::Secure)
            .set_client_to_sentinel_certificates(certificates);
    }
    builder.build()?.async_get_client().await
}

fn cluster(
    settings: &Settings,
    nodes: &[(String, u16)],
    patience: Duration,
) -> RedisResult<redis::cluster::ClusterClientBuilder> {
    let nodes = nodes.iter().map(|(host, port)| {
        let node = address(settings, host, *port).into_connection_info();
        node.map(|node| node.set_redis_settings(identity(settings)))
    });
    let nodes = nodes.collect::<RedisResult<Vec<_>>>()?;
    let mut builder = ClusterClient::builder(nodes)
        .use_protocol(ProtocolVersion::RESP3)
        .connection_timeout(patience)
        .response_timeout(patience)
        .retries(CLUSTER_RETRIES);
    if let Some(certificates) = certificates(settings) {
        builder = builder.tls(redis::TlsMode::Secure).certs(certificates);
    }
    Ok(builder)
}

fn address(settings: &Settings, host: &str, port: u16) -> ConnectionAddr {
    match settings.tls {
        None => ConnectionAddr::Tcp(host.to_owned(), port),
        Some(_) => ConnectionAddr::TcpTls {
            host: host.to_owned(),
            port,
            insecure: false,
            tls_params: None,
        },
    }
}

fn identity(settings: &Settings) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(settings.database)
        .set_lib_name("doorward", env!("CARGO_PKG_VERSION"));
    if let Some(user) = &settings.user {
        info = info.set_username(user);
    }
    if let Some(password) = text(settings.password.as_ref()) {
        info = info.set_password(password);
    }
    info
}

/// Passwords are text; the configuration takes no other.
fn text(password: Option<&Secret>) -> Option<&str> {
    std::str::from_utf8(password?.expose()).ok()
}

fn certificates(settings: &Settings) -> Option<TlsCertificates> {
    let tls = settings.tls.as_ref()?;
    Some(TlsCertificates {
        client_tls: None,
        root_cert: tls.authorities.clone(),
    })
}

fn no_node() -> redis::RedisError {
    (
        redis::ErrorKind::InvalidClientConfig,
        "a Cluster has no one node",
    )
        .into()
}
