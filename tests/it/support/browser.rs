//! A client that keeps cookies and fills in forms, as a browser would.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::CertificateDer;

use super::proxy::trusted;
use super::raw::trusting;
use super::{PASSWORD, Raw};

#[derive(Clone)]
pub struct Browser {
    pub addr: SocketAddr,
    /// What it calls the place where it is, whichever node answers; without, `localhost` and the port.
    pub named: Option<String>,
    pub jar: BTreeMap<String, String>,
    pub http2: bool,
    /// Sent with every request, beside what a browser sends anyway.
    pub fields: Vec<(String, String)>,
    /// Whom it trusts; without, the tests' own certificate.
    pub trusts: Option<CertificateDer<'static>>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub fn set_cookies(&self) -> Vec<&str> {
        let all = self.headers.get_all("set-cookie").into_iter();
        all.map(|value| value.to_str().unwrap()).collect()
    }

    /// The value of a hidden or other input of a form.
    pub fn field(&self, name: &str) -> String {
        let text = self.text();
        let marker = format!("name=\"{name}\"");
        let at = text
            .find(&marker)
            .unwrap_or_else(|| panic!("no field {name} in {text}"));
        let (start, end) = (
            text[..at].rfind('<').unwrap(),
            at + text[at..].find('>').unwrap(),
        );
        let tag = &text[start..end];
        let value = tag
            .split_once("value=\"")
            .map_or("", |(_, rest)| rest.split('"').next().unwrap());
        value.to_owned()
    }
}

impl Browser {
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            named: None,
            jar: BTreeMap::new(),
            http2: false,
            fields: Vec::new(),
            trusts: None,
        }
    }

    #[must_use]
    pub fn over_http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// `localhost` and the port, as `Host` has it.
    pub fn authority(&self) -> String {
        let own = || format!("localhost:{}", self.addr.port());
        self.named.clone().unwrap_or_else(own)
    }

    /// The session cookie's value.
    pub fn token(&self) -> &str {
        self.jar.get("__Host-sid").map_or("", String::as_str)
    }

    /// Opens a page.
    pub async fn open(&mut self, path: &str) -> Answer {
        let navigation = [
            ("accept", "text/html,*/*;q=0.8"),
            ("sec-fetch-mode", "navigate"),
        ];
        self.request(Method::GET, path, &navigation, "").await
    }

    /// Opens a page, and wherever it leads.
    pub async fn follow(&mut self, path: &str) -> Answer {
        let mut answer = self.open(path).await;
        for _ in 0..5 {
            if !answer.status.is_redirection() {
                return answer;
            }
            let location = answer.header("location").to_owned();
            answer = self.open(&location).await;
        }
        panic!("it redirects for ever");
    }

    /// As a script of the app would ask.
    pub async fn fetch(&mut self, path: &str) -> Answer {
        self.request(
            Method::GET,
            path,
            &[("accept", "*/*"), ("sec-fetch-mode", "cors")],
            "",
        )
        .await
    }

    /// Sends a form from a page of the same origin.
    pub async fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let origin = format!("https://{}", self.authority());
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let headers = [
            ("accept", "text/html"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-site", "same-origin"),
            ("origin", origin.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        self.request(Method::POST, path, &headers, &form).await
    }

    /// Logs in with the form that `path` leads to, and returns the answer to it.
    pub async fn log_in_at(&mut self, path: &str, user: &str, password: &str) -> Answer {
        let form = self.follow(path).await;
        let state = form.field("state");
        self.submit(
            "/.doorward/login",
            &[("state", &state), ("user", user), ("password", password)],
        )
        .await
    }

    pub async fn log_in(&mut self, user: &str) {
        let answer = self.log_in_at("/.doorward/login", user, PASSWORD).await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        assert_eq!(self.token().len(), 43);
    }

    pub async fn log_out(&mut self) -> Answer {
        let form = self.open("/.doorward/logout").await;
        let token = form.field("token");
        self.submit("/.doorward/logout", &[("token", &token)]).await
    }

    pub async fn request(
        &mut self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Answer {
        let mut request = Request::builder().method(method);
        request = if self.http2 {
            request.uri(format!("https://{}{path}", self.authority()))
        } else {
            request.uri(path).header("host", self.authority())
        };
        let own = self
            .fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in fields.iter().copied().chain(own) {
            request = request.header(name, value);
        }
        if !self.jar.is_empty() {
            let cookies: Vec<String> = self
                .jar
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            request = request.header("cookie", cookies.join("; "));
        }
        let request = request
            .body(Full::new(Bytes::copy_from_slice(body.as_ref())))
            .unwrap();
        let answer = self.send(request).await;
        self.keep(&answer);
        answer
    }

    /// Over a new connection, without cookies or anything else of its own.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let alpn: &[&[u8]] = if self.http2 { &[b"h2"] } else { &[b"http/1.1"] };
        let trusts = self.trusts.clone().unwrap_or_else(trusted);
        let raw = Raw::try_connect_trusting(self.addr, "localhost", trusting(trusts, alpn));
        let io = TokioIo::new(raw.await.expect("a connection").into_stream());
        let response = if self.http2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                    .await
                    .unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        };
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    fn keep(&mut self, answer: &Answer) {
        for cookie in answer.set_cookies() {
            let cookie = cookie::Cookie::parse(cookie.to_owned()).unwrap();
            assert_eq!(cookie.secure(), Some(true), "{cookie}");
            assert_eq!(cookie.http_only(), Some(true), "{cookie}");
            assert_eq!(cookie.path(), Some("/"), "{cookie}");
            let ends = cookie
                .max_age()
                .is_some_and(cookie::time::SignedDuration::is_zero);
            if ends {
                self.jar.remove(cookie.name());
            } else {
                self.jar
                    .insert(cookie.name().to_owned(), cookie.value().to_owned());
            }
        }
    }
}
