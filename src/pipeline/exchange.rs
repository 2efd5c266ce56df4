//! A request that may go on goes on: to its app and back, as HTTP or as a WebSocket.

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body as _;

use super::Refusal;
use super::app_login::Entered;
use super::body::Body;
use super::caching;
use super::data::Keeper;
use super::forward::{self, Statement};
use super::gate::Passed;
use super::jar::Basket;
use super::kept::Resumed;
use super::memo::HostMemo;
use super::original::Original;
use super::path::NormalPath;
use super::visit::{Kind, Notes, Visit};
use crate::edge::ClientAddr;
use crate::routing::Route;
use crate::upstream::{
    Farewell, Patience, RequestBody, Tunnel, Until, UploadLimits, UpstreamError, tunnel,
};
use crate::wire::ClientBody;

/// A request that has passed, and what was found out about it.
#[derive(Debug)]
pub(super) struct Onward<'a> {
    pub(super) route: &'a Route,
    pub(super) path: &'a NormalPath<'a>,
    pub(super) host: &'a HostMemo,
    pub(super) client: &'a ClientAddr,
    pub(super) kind: Kind,
    pub(super) passed: &'a Passed,
    /// As it came, where its answer may begin or end a session.
    pub(super) original: Option<&'a Original>,
}

impl Visit {
    /// Says in the request what only we may say, sends it, and makes the answer fit for the client.
    pub(super) async fn forward(
        &self,
        (parts, body, resumed): (&mut Parts, ClientBody, Option<Box<Resumed>>),
        onward: &Onward<'_>,
        notes: &mut Notes,
    ) -> Result<Response<Body>, Refusal> {
        let Onward { route, passed, .. } = *onward;
        // A route that other proxies ask about has nothing behind it here.
        let app = route.upstream.ok_or(Refusal::NotFound)?;
        let target = self.pipeline.upstreams.target(app);
        let target = target.ok_or(Refusal::NotFound)?;
        let keeper = Keeper::of(parts, onward, notes);
        self.state(parts, onward);
        let basket = Basket::of(parts, route, passed);
        if let Some(basket) = &basket {
            basket.fill_request(&mut parts.headers, &self.pipeline.shared);
        }
        let door = onward.original.filter(|original| original.may_log_in);
        let shown = door.and(parts.headers.get(header::COOKIE)).cloned();
        let mut response = if onward.kind.upgrade {
            let request = Request::from_parts(leave(parts), body);
            Box::pin(self.upgrade((request, app), route, passed)).await?
        } else if let Some(resumed) = resumed {
            let body = self.outgoing(parts, body, route)?;
            let request = (Request::from_parts(leave(parts), body), app);
            let sent = self.send_kept(request, *resumed, (patience(route), passed));
            Box::pin(sent).await?.map(Body::proxied)
        } else {
            self.send((parts, body, app), route, passed).await?
        };
        let entered = match door {
            Some(original) => {
                let answer = (response.status(), response.headers());
                Box::pin(self.enter((original, onward), answer, notes)).await?
            }
            None => None,
        };
        let into = entered
            .as_ref()
            .and_then(|entered| entered.session.as_ref());
        let keeper = keeper.map(|keeper| keeper.within(into));
        let basket = basket.map(|basket| basket.within(into, shown));
        if keeper.is_some() || basket.is_some() {
            let kept = self.keep_all(response.headers_mut(), (keeper, basket), notes);
            if let Err(refusal) = Box::pin(kept).await {
                Box::pin(self.withdraw(into, passed, notes)).await;
                return Err(refusal);
            }
        }
        forward::clean_response(response.headers_mut(), &self.pipeline.shared);
        caching::restrict(&mut response, route.caching);
        if onward.kind.upgrade && response.status() == StatusCode::SWITCHING_PROTOCOLS {
            forward::switch(response.headers_mut());
        }
        forward::complete_response(response.headers_mut(), route, target, onward.host);
        let exit = onward.original.filter(|original| original.logs_out);
        let aftermath = match (entered, exit) {
            (Some(Entered { aftermath, .. }), _) => Some(aftermath),
            (None, Some(original)) => {
                Box::pin(self.leave((original, onward), response.status(), notes)).await?
            }
            (None, None) => None,
        };
        Ok(match aftermath {
            // Not for the session that it came in, which may have ended with it.
            Some(aftermath) => aftermath.apply(response),
            None => response.map(|body| body.within(passed)),
        })
    }

    /// Stores what an app wants kept, before its answer goes on.
    async fn keep_all(
        &self,
        headers: &mut HeaderMap,
        (keeper, basket): (Option<Keeper<'_>>, Option<Basket<'_>>),
        notes: &mut Notes,
    ) -> Result<(), Refusal> {
        if let Some(keeper) = keeper {
            let begun = self.keep(headers, keeper).await?;
            notes.begun = begun.or(notes.begun.take());
        }
        if let Some(basket) = basket {
            self.empty_into(basket, headers).await?;
        }
        Ok(())
    }

    fn state(&self, parts: &mut Parts, onward: &Onward<'_>) {
        let Onward {
            route,
            path,
            host,
            client,
            kind,
            passed,
            ..
        } = *onward;
        if let Some(uri) = forward::target(&parts.uri, path, route) {
            parts.uri = uri;
        }
        let (x_forwarded_for, forwarded) = self.on_behalf(client, host);
        let statement = Statement {
            route,
            host,
            x_forwarded_for: &x_forwarded_for,
            forwarded: &forwarded,
            bearer: passed.bearer(),
            wants_trailers: kind.wants_trailers,
            upgrade: kind.upgrade,
        };
        forward::state(parts, &self.pipeline.shared, &statement);
    }

    async fn send(
        &self,
        (parts, incoming, app): (&mut Parts, ClientBody, usize),
        route: &Route,
        passed: &Passed,
    ) -> Result<Response<Body>, Refusal> {
        let upstreams = &self.pipeline.upstreams;
        let body = self.outgoing(parts, incoming, route)?;
        let response = upstreams
            .send(
                app,
                Request::from_parts(leave(parts), body),
                (patience(route), passed),
            )
            .await?;
        Ok(response.map(Body::proxied))
    }

    fn outgoing(
        &self,
        parts: &mut Parts,
        incoming: ClientBody,
        route: &Route,
    ) -> Result<RequestBody, Refusal> {
        let shared = &*self.pipeline.shared;
        if incoming.is_end_stream() {
            return Ok(RequestBody::Empty);
        }
        if !parts.headers.contains_key(header::CONTENT_LENGTH) {
            // Said in so many words, since the library takes it that a GET has no body and leaves it out.
            let chunked = HeaderValue::from_static("chunked");
            parts.headers.insert(header::TRANSFER_ENCODING, chunked);
        }
        let limits = UploadLimits {
            max_bytes: route.max_body,
            patience: shared.body_patience,
            trailers: shared.trailers.clone(),
        };
        let upload = RequestBody::upload(incoming, limits, self.pipeline.upstreams.watch());
        Ok(upload?)
    }

    /// Sends a request that asks for a WebSocket. Where the app agrees, bytes go both ways until the session ends.
    async fn upgrade(
        &self,
        (mut request, app): (Request<ClientBody>, usize),
        route: &Route,
        passed: &Passed,
    ) -> Result<Response<Body>, Refusal> {
        let patience = patience(route);
        let client = hyper::upgrade::on(&mut request);
        let request = request.map(|_| RequestBody::Empty);
        let mut response = self
            .pipeline
            .upstreams
            .send_upgrade(app, request, (patience, passed))
            .await?;
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switched && !forward::is_websocket(response.headers()) {
            let other = "the app changed to another protocol than was asked for".to_owned();
            return Err(UpstreamError::Exchange(other).into());
        }
        if switched {
            let upstream = hyper::upgrade::on(&mut response);
            let (over, draining) = (passed.over(), self.pipeline.shared.draining.clone());
            let watch = self.pipeline.upstreams.watch().clone();
            let ends = Tunnel {
                client,
                upstream,
                idle: patience.idle,
            };
            tokio::spawn(async move {
                let until = async {
                    tokio::select! {
                        () = over => Farewell::SessionEnded,
                        () = draining.begun() => Farewell::GoingAway,
                    }
                };
                tunnel(ends, &watch, until).await;
            });
        }
        Ok(response.map(Body::proxied))
    }
}

/// The request goes on, and leaves an empty one behind.
fn leave(parts: &mut Parts) -> Parts {
    std::mem::replace(parts, Request::new(()).into_parts().0)
}

pub(super) fn patience(route: &Route) -> Patience {
    Patience {
        connect: route.timeouts.connect,
        first_byte: route.timeouts.first_byte,
        idle: route.timeouts.idle,
    }
}
