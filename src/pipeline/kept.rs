//! A form whose session has ended meanwhile, on routes that keep such: it is put by before its sender is told to log in, and
//! goes on to its app once, when they say so.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, Uri};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::Refusal;
use super::exchange::patience;
use super::gate::Passed;
use super::memo::HostMemo;
use super::original::Original;
use super::visit::{Notes, Visit};
use crate::portal::{Keeping, KeptPost, PortalError, PortalRequest, Sender, wanted};
use crate::routing::Route;
use crate::session::{DataError, LiveSession, Visitor};
use crate::upstream::{Patience, Reached, RequestBody, ResponseBody, UpstreamError};
use crate::wire::ClientBody;

/// How long a form may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A form that was kept and goes on now.
#[derive(Debug)]
pub(super) struct Resumed {
    reached: Reached,
    post: KeptPost,
    session: LiveSession,
}

impl Visit {
    /// Puts a form by whose sender has to log in first. What cannot be kept is not: the sender is told.
    pub(super) async fn put_by(
        &self,
        original: Option<&Original>,
        from: (&Uri, &HostMemo),
        body: ClientBody,
        notes: &mut Notes,
    ) -> Keeping {
        let route = notes.route.as_ref();
        let max = route.and_then(|route| {
            let most = route.max_body.and_then(|most| usize::try_from(most).ok());
            Some(route.keep_posts?.min(most.unwrap_or(usize::MAX)))
        });
        let form = original.and_then(|original| Some((original, original.sender.as_ref()?)));
        match form.zip(max) {
            Some((form, max)) => Box::pin(self.put_form_by(form, from, (body, max), notes)).await,
            None => Keeping::No,
        }
    }

    async fn put_form_by(
        &self,
        (original, sender): (&Original, &Sender),
        (uri, host): (&Uri, &HostMemo),
        (body, max): (ClientBody, usize),
        notes: &mut Notes,
    ) -> Keeping {
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        // There is a session that cannot be had here, and must not be replaced; or it was kept once already.
        let is_out_of_reach = notes.anew && notes.session.is_none();
        if is_out_of_reach || wanted(target).is_some() {
            return Keeping::No;
        }
        let content = match read(body, max).await {
            Ok(content) => content,
            Err(keeping) => return keeping,
        };
        let shared = &*self.pipeline.shared;
        let content_type = original.headers.get(header::CONTENT_TYPE);
        let content_type = content_type.map_or(&b""[..], HeaderValue::as_bytes);
        let post = shared.portal.to_keep(
            sender,
            notes.session.as_ref(),
            (host.authority(), target),
            (content_type, &content),
        );
        let Some(post) = post.and_then(|post| post.write()) else {
            return Keeping::No;
        };
        match self.store(original, &post, notes).await {
            Ok(()) => Keeping::Kept,
            Err(error) => {
                tracing::warn!(%error, "a form is not kept");
                Keeping::No
            }
        }
    }

    async fn store(
        &self,
        original: &Original,
        post: &[u8],
        notes: &mut Notes,
    ) -> Result<(), DataError> {
        let shared = &*self.pipeline.shared;
        if let Some(session) = &notes.session {
            return shared.portal.keep(session, post).await;
        }
        let visitor = Visitor {
            address: notes.client.unwrap_or(self.peer.addr.ip()),
            user_agent: original.headers.get(header::USER_AGENT).cloned(),
        };
        let begun = shared.sessions.keep_post_of_visitor(&visitor, post).await?;
        notes.begun = Some(begun.ok_or(DataError::Gone)?.cookie);
        Ok(())
    }

    /// Puts the form that was kept in the place of the one that says to send it.
    pub(super) async fn take_up(
        &self,
        (parts, body): (&mut Parts, ClientBody),
        original: Option<&Original>,
        (host, passed): (&HostMemo, &Passed),
        notes: &Notes,
    ) -> Result<(ClientBody, Option<Box<Resumed>>), Refusal> {
        let keeps = notes
            .route
            .as_ref()
            .is_some_and(|route| route.keep_posts.is_some());
        if !keeps || parts.method != Method::POST {
            return Ok((body, None));
        }
        let target = parts.uri.path_and_query();
        let target = target.and_then(|target| wanted(target.as_str()));
        let form = original.filter(|original| original.sender.is_some());
        match (form, target, passed.session()) {
            // Not from our own page: the app would take the token of our form for one of its own.
            (None, Some(_), _) => Err(Refusal::Portal(PortalError::CrossSite)),
            (Some(form), Some((target, id)), Some(session)) => {
                let of = (target.to_owned(), id);
                let taken = self.take_form_up((parts, body), form, (host, session, of), notes);
                Box::pin(taken).await
            }
            _ => Ok((body, None)),
        }
    }

    /// The app is reached first: as long as it cannot be, the form stays. Then it is taken out, and sent at most once.
    async fn take_form_up(
        &self,
        (parts, body): (&mut Parts, ClientBody),
        original: &Original,
        (host, session, (target, id)): (&HostMemo, &LiveSession, (String, [u8; 16])),
        notes: &Notes,
    ) -> Result<(ClientBody, Option<Box<Resumed>>), Refusal> {
        let portal = &self.pipeline.shared.portal;
        let route = notes.route.as_ref().ok_or(Refusal::NotFound)?;
        let serves = |named: &str, port| self.pipeline.shared.serves(named, port, host);
        let request = PortalRequest {
            method: &parts.method,
            place: "kept",
            query: None,
            headers: &original.headers,
            authority: host.authority(),
            host: &host.host,
            client: notes.client.unwrap_or(self.peer.addr.ip()),
            session: Some(session),
            serves: &serves,
        };
        portal.demand_own_form(&request, session, body).await?;
        // What another node keeps is found out as it is taken.
        let early = if portal.knows_kept(&request, session, (&target, id)) {
            Some(self.reach(route).await.map_err(Refusal::Unreached)?)
        } else {
            None
        };
        let post = portal.take_kept(&request, session, (&target, id)).await?;
        let open = early.and_then(|mut reached| reached.is_open().then_some(reached));
        let reached = match open {
            Some(reached) => Ok(reached),
            None => self.reach(route).await,
        };
        let reached = match reached {
            Ok(reached) => reached,
            Err(error) => return Err(self.put_back((session, &post), error).await),
        };
        let uri = post.target.parse::<Uri>();
        let content_type = HeaderValue::from_bytes(&post.content_type);
        let (Ok(uri), Ok(content_type)) = (uri, content_type) else {
            return Err(Refusal::NotFound);
        };
        parts.uri = uri;
        parts.headers.insert(header::CONTENT_TYPE, content_type);
        let length = HeaderValue::from(post.content.len());
        parts.headers.insert(header::CONTENT_LENGTH, length);
        let body = ClientBody::kept(Bytes::from(post.content.clone()));
        let session = session.clone();
        let resumed = Resumed {
            reached,
            post,
            session,
        };
        Ok((body, Some(Box::new(resumed))))
    }

    async fn reach(&self, route: &Route) -> Result<Reached, UpstreamError> {
        let nowhere = || UpstreamError::Connect("the route has no app".to_owned());
        let app = route.upstream.ok_or_else(nowhere)?;
        self.pipeline.upstreams.reach(app, patience(route)).await
    }

    /// Sends a form that was kept. It waits on where nothing of it was written; else it is gone, whatever came of it.
    pub(super) async fn send_kept(
        &self,
        (request, app): (Request<RequestBody>, usize),
        resumed: Resumed,
        until: (Patience, &Passed),
    ) -> Result<Response<ResponseBody>, Refusal> {
        let (patience, passed) = until;
        let way = (app, resumed.reached);
        let upstreams = &self.pipeline.upstreams;
        let sent = upstreams.send_over(way, request, (patience, passed)).await;
        match sent {
            Ok(response) => Ok(response),
            Err(unsent) if unsent.is_untouched => {
                let form = (&resumed.session, &resumed.post);
                Err(self.put_back(form, unsent.error).await)
            }
            Err(unsent) => Err(unsent.error.into()),
        }
    }

    /// Keeps a form on that was taken out and not sent.
    async fn put_back(
        &self,
        (session, post): (&LiveSession, &KeptPost),
        error: UpstreamError,
    ) -> Refusal {
        let bytes = post.write().unwrap_or_default();
        match self.pipeline.shared.portal.keep(session, &bytes).await {
            Ok(()) => Refusal::Unreached(error),
            Err(lost) => {
                tracing::warn!(error = %lost, "a form that could not be sent is not kept on");
                error.into()
            }
        }
    }
}

/// All of a form that is not too large and comes in time.
async fn read(body: ClientBody, max: usize) -> Result<Bytes, Keeping> {
    if body.size_hint().lower() > max as u64 {
        return Err(Keeping::TooLarge);
    }
    let whole = tokio::time::timeout(PATIENCE, Limited::new(body, max).collect()).await;
    match whole {
        Ok(Ok(content)) => Ok(content.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Keeping::TooLarge),
        Ok(Err(_)) | Err(_) => Err(Keeping::No),
    }
}
