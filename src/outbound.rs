//! HTTP requests of our own making, to identity providers: few, small and never on behalf of a browser's connection. No
//! redirect is followed, no answer is larger than what is asked for, and no answer takes longer.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderValue, USER_AGENT};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Handle;
use tower_service::Service;

use crate::resolver::Resolver;

/// Connections that are kept for the next request, and how long.
const MAX_IDLE: usize = 8;
const IDLE: Duration = Duration::from_secs(30);

type Connector = HttpsConnector<HttpConnector<Resolver>>;

/// Where requests go out. Whatever thread asks, the work is done on the runtime that was given: connections stay there.
#[derive(Clone)]
pub struct Outbound {
    client: Client<Connector, Full<Bytes>>,
    runtime: Handle,
    limits: Limits,
}

/// What one exchange may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the first step of connecting to the last byte of the answer.
    pub time: Duration,
    /// Of the answer's body, in bytes.
    pub answer: usize,
}

#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OutboundError {
    #[error("the trusted certificates cannot be used: {0}")]
    Authorities(String),
    #[error("it did not answer in time")]
    Timeout,
    #[error("its answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error("{0}")]
    Transport(String),
}

impl Outbound {
    /// `authorities` is PEM of those that sign the servers' certificates; `None`: those that this machine trusts.
    pub fn new(
        authorities: Option<&[u8]>,
        limits: Limits,
        runtime: Handle,
    ) -> Result<Self, OutboundError> {
        let mut http = HttpConnector::new_with_resolver(Resolver::default());
        http.enforce_http(false);
        // Of connections, too, that go on for another request when theirs has been given up.
        http.set_connect_timeout(Some(limits.time));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(client_config(authorities)?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .build(connector);
        Ok(Self {
            client,
            runtime,
            limits,
        })
    }

    /// Sends a request with an absolute address and returns the whole answer, whatever its status.
    pub async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, OutboundError> {
        let agent = HeaderValue::from_static("doorward");
        request.headers_mut().insert(USER_AGENT, agent);
        let (client, limits) = (self.client.clone(), self.limits);
        let work = async move {
            let exchange = exchange(&client, request, limits.answer);
            let done = tokio::time::timeout(limits.time, exchange).await;
            done.unwrap_or(Err(OutboundError::Timeout))
        };
        let done = self.runtime.spawn(work).await;
        done.unwrap_or_else(|_| Err(OutboundError::Transport("it was called off".to_owned())))
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move {
            let found = resolver.addresses(name.as_str()).await?;
            // The connector puts the port in.
            let found: Vec<_> = found.into_iter().map(|ip| (ip, 0).into()).collect();
            Ok(found.into_iter())
        })
    }
}

async fn exchange(
    client: &Client<Connector, Full<Bytes>>,
    request: Request<Full<Bytes>>,
    most: usize,
) -> Result<Response<Bytes>, OutboundError> {
    let answer = client.request(request).await;
    let answer = answer.map_err(|error| OutboundError::Transport(with_causes(&error)))?;
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, most).collect().await;
    let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => OutboundError::TooLarge(most),
        None => OutboundError::Transport(error.to_string()),
    })?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

/// How servers have to show who they are: by one of `authorities`, PEM, or by one that this machine trusts.
pub fn client_config(authorities: Option<&[u8]>) -> Result<ClientConfig, OutboundError> {
    let config = ClientConfig::builder().with_root_certificates(roots(authorities)?);
    Ok(config.with_no_client_auth())
}

fn roots(authorities: Option<&[u8]>) -> Result<RootCertStore, OutboundError> {
    let trouble = |error: &dyn fmt::Display| OutboundError::Authorities(error.to_string());
    let mut store = RootCertStore::empty();
    if let Some(pem) = authorities {
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| trouble(&error))?;
            store.add(certificate).map_err(|error| trouble(&error))?;
        }
    } else {
        let found = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(found.certs);
    }
    if store.is_empty() {
        return Err(trouble(&"there are none"));
    }
    Ok(store)
}

/// The client's errors keep to themselves what happened; their causes tell.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const LIMITS: Limits = Limits {
        time: Duration::from_secs(5),
        answer: 1000,
    };

    fn outbound(limits: Limits) -> Outbound {
        let pem = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
        let pem = pem.unwrap().cert.pem();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let _first = provider.install_default().is_ok();
        Outbound::new(Some(pem.as_bytes()), limits, Handle::current()).unwrap()
    }

    /// What becomes of one request to a server that says this, and then nothing.
    async fn asked(limits: Limits, answer: Vec<u8>) -> Result<Response<Bytes>, OutboundError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = [0; 1024];
            let _read = stream.read(&mut seen).await.unwrap();
            stream.write_all(&answer).await.unwrap();
            std::future::pending::<()>().await;
        });
        let request = Request::get(format!("http://{address}/"));
        let outbound = outbound(limits);
        let asked = outbound.send(request.body(Full::default()).unwrap());
        let answer = asked.await;
        serving.abort();
        answer
    }

    fn answer(head: &str, body: &[u8]) -> Vec<u8> {
        [head.as_bytes(), b"\r\n\r\n", body].concat()
    }

    #[tokio::test]
    async fn an_answer_has_a_bound() {
        let body = vec![b'x'; 1001];
        let whole = answer("HTTP/1.1 200 OK\r\ncontent-length: 1000", &body[..1000]);
        let answered = asked(LIMITS, whole).await.unwrap();
        assert_eq!(answered.body().len(), 1000);
        let told = answer("HTTP/1.1 200 OK\r\ncontent-length: 1001", &body);
        let untold = answer(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked",
            &[b"3e9\r\n", &body[..], b"\r\n0\r\n\r\n"].concat(),
        );
        for much in [told, untold] {
            let refused = asked(LIMITS, much).await;
            assert_eq!(refused.unwrap_err(), OutboundError::TooLarge(1000));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_whole_is_not_waited_for() {
        let begun = answer("HTTP/1.1 200 OK\r\ncontent-length: 10", b"abc");
        let refused = asked(LIMITS, begun).await;
        assert_eq!(refused.unwrap_err(), OutboundError::Timeout);
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_like_any_other() {
        let away = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0";
        let answered = asked(LIMITS, answer(away, b"")).await.unwrap();
        assert_eq!(answered.status(), 302);
    }

    #[tokio::test]
    async fn nobody_to_ask_is_told_with_its_cause() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let request = Request::get(format!("http://{address}/"));
        let outbound = outbound(LIMITS);
        let asked = outbound.send(request.body(Full::default()).unwrap());
        let error = asked.await.unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
    }
}
