//! One connection that is kept open over many requests, as browsers do. It sends what it is told and keeps no cookies.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{Answer, Raw};

/// Longer than any answer takes; a store may take its time, and more than once for one.
const PATIENCE: Duration = Duration::from_mins(1);

pub struct Kept {
    sender: Sender,
    authority: String,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Kept {
    /// To `localhost`.
    pub async fn open(addr: SocketAddr, http2: bool) -> Self {
        if http2 {
            Self::http2(addr, "localhost").await
        } else {
            Self::http1(addr, "localhost").await
        }
    }

    pub async fn http1(addr: SocketAddr, host: &str) -> Self {
        Self::try_http1(addr, host).await.expect("a connection")
    }

    /// `None` where there is nobody to connect to.
    pub async fn try_http1(addr: SocketAddr, host: &str) -> Option<Self> {
        let stream = Raw::try_connect(addr, host, &[b"http/1.1"]).await?;
        let io = TokioIo::new(stream.into_stream());
        let (sender, connection) = http1::handshake(io).await.ok()?;
        tokio::spawn(connection);
        Some(Self {
            sender: Sender::Http1(sender),
            authority: format!("{host}:{}", addr.port()),
        })
    }

    pub async fn http2(addr: SocketAddr, host: &str) -> Self {
        let io = TokioIo::new(Raw::connect_as(addr, host, &[b"h2"]).await.into_stream());
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        Self {
            sender: Sender::Http2(sender),
            authority: format!("{host}:{}", addr.port()),
        }
    }

    /// Asks as a script would: what is not allowed is told by a status.
    pub async fn get(&mut self, path: &str, cookies: &[&str]) -> Answer {
        self.request((Method::GET, path), cookies, &[], "").await
    }

    /// Sends a form from a page of the same origin.
    pub async fn post(&mut self, path: &str, cookies: &[&str], form: &str) -> Answer {
        self.try_post(path, cookies, form).await.expect("an answer")
    }

    pub async fn try_post(&mut self, path: &str, cookies: &[&str], form: &str) -> Option<Answer> {
        let origin = format!("https://{}", self.authority);
        let fields = [
            ("origin", origin.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        self.try_request((Method::POST, path), cookies, &fields, form)
            .await
    }

    pub async fn request(
        &mut self,
        what: (Method, &str),
        cookies: &[&str],
        fields: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        self.try_request(what, cookies, fields, body)
            .await
            .expect("an answer")
    }

    /// `cookies` are whole `Cookie` fields, one each. `None` where the connection ends before the answer does.
    pub async fn try_request(
        &mut self,
        (method, path): (Method, &str),
        cookies: &[&str],
        fields: &[(&str, &str)],
        body: &str,
    ) -> Option<Answer> {
        let mut request = Request::builder().method(method);
        request = match self.sender {
            Sender::Http1(_) => request.uri(path).header("host", &self.authority),
            Sender::Http2(_) => request.uri(format!("https://{}{path}", self.authority)),
        };
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        for cookie in cookies {
            request = request.header("cookie", *cookie);
        }
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        let request = request.body(body).unwrap();
        let whole = async {
            let response = match &mut self.sender {
                Sender::Http1(sender) => {
                    sender.ready().await.ok()?;
                    sender.send_request(request).await.ok()?
                }
                Sender::Http2(sender) => sender.send_request(request).await.ok()?,
            };
            let (parts, body) = response.into_parts();
            let body = body.collect().await.ok()?.to_bytes();
            Some(Answer {
                status: parts.status,
                headers: parts.headers,
                body,
            })
        };
        tokio::time::timeout(PATIENCE, whole)
            .await
            .expect("in time")
    }
}
