//! A request that may go on goes on: to its app and back, as HTTP or as a WebSocket.

use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;

use super::body::Body;
use super::gate::Passed;
use super::visit::Visit;
use super::{Refusal, forward};
use crate::routing::Route;
use crate::session::LiveSession;
use crate::upstream::{Patience, RequestBody, Tunnel, UploadLimits, tunnel};

impl Visit {
    pub(super) async fn send(
        &self,
        request: Request<Incoming>,
        route: &Route,
        patience: Patience,
    ) -> Result<Response<Body>, Refusal> {
        let shared = &*self.pipeline.shared;
        let (parts, incoming) = request.into_parts();
        let body = if incoming.is_end_stream() {
            RequestBody::Empty
        } else {
            let limits = UploadLimits {
                max_bytes: route.max_body,
                patience: shared.body_patience,
                trailers: shared.trailers.clone(),
            };
            RequestBody::upload(incoming, limits, self.pipeline.upstreams.watch())?
        };
        let request = Request::from_parts(parts, body);
        let mut response = self
            .pipeline
            .upstreams
            .send(route.upstream, request, patience)
            .await?;
        forward::clean_response(response.headers_mut(), shared);
        Ok(response.map(Body::proxied))
    }

    /// Sends a request that asks for a WebSocket. Where the app agrees, bytes go both ways until the session ends.
    pub(super) async fn upgrade(
        &self,
        mut request: Request<Incoming>,
        route: &Route,
        patience: Patience,
        passed: &Passed,
    ) -> Result<Response<Body>, Refusal> {
        let shared = &*self.pipeline.shared;
        let client = hyper::upgrade::on(&mut request);
        let request = request.map(|_| RequestBody::Empty);
        let mut response = self
            .pipeline
            .upstreams
            .send_upgrade(route.upstream, request, patience)
            .await?;
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        forward::clean_response(response.headers_mut(), shared);
        if switched {
            let upstream = hyper::upgrade::on(&mut response);
            let ended = passed.session().map(LiveSession::ended);
            let watch = self.pipeline.upstreams.watch().clone();
            tokio::spawn(async move {
                let until = async {
                    match ended {
                        Some(ended) => ended.await,
                        None => std::future::pending().await,
                    }
                };
                tunnel(
                    Tunnel {
                        client,
                        upstream,
                        idle: patience.idle,
                    },
                    &watch,
                    until,
                )
                .await;
            });
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        Ok(response.map(Body::proxied))
    }
}

pub(super) fn patience(route: &Route) -> Patience {
    Patience {
        connect: route.timeouts.connect,
        first_byte: route.timeouts.first_byte,
        idle: route.timeouts.idle,
    }
}
