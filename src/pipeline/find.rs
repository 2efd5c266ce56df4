//! Which route a request leads to. It knows no session.

use std::sync::Arc;

use http::Method;

use super::Refusal;
use super::here::is_reserved;
use super::path::{NormalPath, plain_view};
use crate::routing::{HostRoutes, NoRoute, Route};

/// The route that the path leads to, if the path holds nothing that the route does not allow. Where it allows something,
/// the careless reading of the path must lead to the same route.
pub(super) fn find_route<'r>(
    routes: &'r HostRoutes,
    method: &Method,
    path: &NormalPath<'_>,
) -> Result<&'r Arc<Route>, Refusal> {
    let find = |path: &str| {
        routes
            .find(method, path)
            .map_err(|no_route| match no_route {
                NoRoute::Method => Refusal::Method {
                    allow: routes.methods(path),
                },
                NoRoute::NotFound => Refusal::NotFound,
            })
    };
    let route = find(path.as_str())?;
    let mut oddities = path.oddities().iter();
    if let Some(odd) = oddities.find(|odd| !route.allow.contains(odd)) {
        return Err(Refusal::Odd(odd));
    }
    if let Some(odd) = path.oddities().iter().next() {
        let plain = plain_view(path.as_str());
        if is_reserved(&plain) || !find(&plain).is_ok_and(|other| Arc::ptr_eq(other, route)) {
            return Err(Refusal::Odd(odd));
        }
    }
    Ok(route)
}
