//! What is remembered of a request for its line in the access log. Made only where such a log is kept.

use std::net::IpAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{Version, header};
use http_body::Body as _;
use tokio::time::Instant;

use super::Shared;
use super::visit::Visit;
use crate::login::Grant;
use crate::routing::Route;
use crate::session::LiveSession;
use crate::telemetry::{AccessLine, AccessLog};
use crate::upstream::UpstreamError;
use crate::wire::{ClientBody, RequestId};

#[derive(Debug)]
pub(super) struct Trail {
    pub(super) log: Arc<AccessLog>,
    pub(super) shared: Arc<Shared>,
    pub(super) began: Instant,
    pub(super) id: RequestId,
    pub(super) client: IpAddr,
    pub(super) method: http::Method,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) http2: bool,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) status: u16,
    pub(super) route: Option<Arc<Route>>,
    pub(super) session: Option<LiveSession>,
    pub(super) grant: Option<Arc<Grant>>,
    pub(super) upstream_error: Option<&'static str>,
}

impl Trail {
    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
    }

    pub(super) fn failed(&mut self, error: &UpstreamError) {
        self.upstream_error = Some(error.kind());
    }
}

impl Visit {
    /// `None` where no such log is kept.
    pub(super) fn begin_trail(&self, request: &Parts, body: &ClientBody) -> Option<Box<Trail>> {
        let access = &self.pipeline.access;
        if !access.enabled() {
            return None;
        }
        let host = request
            .headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let host = request
            .uri
            .authority()
            .map(http::uri::Authority::as_str)
            .or(host);
        Some(Box::new(Trail {
            log: access.clone(),
            shared: self.pipeline.shared.clone(),
            began: Instant::now(),
            id: self.pipeline.shared.ids.next(),
            client: self.client(&request.headers).ip,
            method: request.method.clone(),
            host: host.unwrap_or_default().to_owned(),
            path: request.uri.path().to_owned(),
            http2: request.version == Version::HTTP_2,
            bytes_in: body.size_hint().lower(),
            bytes_out: 0,
            status: 0,
            route: None,
            session: None,
            grant: None,
            upstream_error: None,
        }))
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        let session = self.session.as_ref();
        let sid = session.map(LiveSession::sid);
        let granted = self.grant.as_ref().map(|grant| &grant.identity);
        let identity = session.and_then(LiveSession::identity).or(granted);
        self.log.record(&AccessLine {
            time: self.shared.clock.now(),
            client: self.client,
            user: identity.map(|identity| identity.user.as_str()),
            sid: sid.as_ref().map(|sid| sid as &dyn std::fmt::Display),
            method: self.method.as_str(),
            host: &self.host,
            path: &self.path,
            status: self.status,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            duration: self.began.elapsed(),
            route: self.route.as_ref().map(|route| route.id.as_str()),
            request: self.id,
            protocol: if self.http2 { "h2" } else { "h1" },
            upstream_error: self.upstream_error,
        });
    }
}
