//! Asks a running Doorward over its unix socket. It knows how to ask and how to say that nobody answers, not what for.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

/// Longer than an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// All but what means itself everywhere (RFC 3986 section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

#[derive(Debug)]
pub(super) struct AdminClient {
    socket: PathBuf,
    runtime: Runtime,
}

impl AdminClient {
    pub(super) fn new(socket: PathBuf) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.context("cannot start a runtime")?;
        Ok(Self { socket, runtime })
    }

    /// The answer in JSON, `null` where it is empty. `None`: what was asked for is not there.
    pub(super) fn ask(&self, method: Method, target: &str) -> Result<Option<Value>> {
        let answer = self.runtime.block_on(async {
            // Made in here, since it needs the runtime's clock.
            tokio::time::timeout(PATIENCE, self.exchange(method, target)).await
        });
        let (status, body) = answer.map_err(|_| anyhow!("Doorward did not answer in time"))??;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let json = || serde_json::from_slice::<Value>(&body);
        if !status.is_success() {
            let told = json().ok();
            let detail = told.as_ref().and_then(|told| told.get("detail")?.as_str());
            bail!(
                "{}",
                detail.map_or_else(|| status.to_string(), str::to_owned)
            );
        }
        if body.is_empty() {
            return Ok(Some(Value::Null));
        }
        json().map(Some).context("the answer is no JSON")
    }

    async fn exchange(&self, method: Method, target: &str) -> Result<(StatusCode, Bytes)> {
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(|error| nobody_there(&self.socket, &error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", "localhost")
            .body(Empty::<Bytes>::new())?;
        let asking = async move {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER)
                .collect()
                .await;
            let body = body.map_err(|error| anyhow!("{error}"))?;
            Ok::<_, anyhow::Error>((status, body.to_bytes()))
        };
        // Whichever ends first, the answer is what counts: the connection may be over before its last bytes were looked at.
        let (answer, _ended) = tokio::join!(asking, connection);
        answer
    }
}

fn nobody_there(socket: &Path, error: &std::io::Error) -> anyhow::Error {
    let place = socket.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => anyhow!(
            "no Doorward runs here: nothing answers at {place}\n\
             Is it another one? `--config FILE` names the configuration that it runs with."
        ),
        ErrorKind::PermissionDenied => anyhow!(
            "{place} may be used by whoever runs Doorward, and by root; for example with `sudo -u doorward`"
        ),
        _ => anyhow!("cannot ask Doorward at {place}: {error}"),
    }
}

/// A path of the API: its segments, whatever they hold.
pub(super) fn target(segments: &[&str]) -> String {
    let mut path = "/api/v1".to_owned();
    for segment in segments {
        let segment = utf8_percent_encode(segment, RESERVED);
        path.push('/');
        path.extend(segment);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_stays_one_segment_whatever_it_holds() {
        assert_eq!(
            target(&["users", "my-idp 1", "a/b?c#d%", "sessions"]),
            "/api/v1/users/my-idp%201/a%2Fb%3Fc%23d%25/sessions"
        );
    }
}
