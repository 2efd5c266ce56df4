//! Host, path and method to a route: an immutable table in which the most specific route wins, whatever the order
//! in the file. No route, no answer (R14). It knows no other module.

mod host;
mod route;

pub use host::{HostPattern, split_authority};
pub use route::{
    Access, AppLogout, Caching, Clients, CookieJar, Edits, Oddity, OnEnd, Route, Timeouts,
};

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;

/// Every route of a configuration.
#[derive(Debug, Default)]
pub struct RouteTable {
    exact: HashMap<String, HostRoutes>,
    /// By what follows `*.`.
    wildcard: HashMap<String, HostRoutes>,
}

/// The routes of one host, by path prefix.
#[derive(Debug, Default)]
pub struct HostRoutes {
    by_prefix: HashMap<String, Vec<Arc<Route>>>,
    longest_prefix: usize,
}

/// Why there is no route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoRoute {
    /// The path is served, but not to this method.
    Method,
    NotFound,
}

/// Two routes that nothing tells apart.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("two routes match the same requests: {host}{path}")]
pub struct Ambiguous {
    pub host: String,
    pub path: String,
}

impl RouteTable {
    pub fn new(routes: Vec<Route>) -> Result<Self, Ambiguous> {
        let mut table = Self::default();
        for (number, mut route) in routes.into_iter().enumerate() {
            route.number = number;
            let hosts = match &route.host {
                HostPattern::Exact(host) => table.exact.entry(host.clone()),
                HostPattern::Wildcard(rest) => table.wildcard.entry(rest.clone()),
            };
            hosts.or_default().insert(route)?;
        }
        Ok(table)
    }

    /// The routes of a host (lower case, no port): the exact name, then the longest wildcard.
    pub fn host(&self, host: &str) -> Option<&HostRoutes> {
        if let Some(routes) = self.exact.get(host) {
            return Some(routes);
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(routes) = self.wildcard.get(parent) {
                return Some(routes);
            }
            rest = parent;
        }
        None
    }

    pub fn serves(&self, host: &str) -> bool {
        self.host(host).is_some()
    }

    /// Every route, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        let hosts = self.exact.values().chain(self.wildcard.values());
        hosts.flat_map(|host| host.by_prefix.values().flatten())
    }
}

impl HostRoutes {
    fn insert(&mut self, route: Route) -> Result<(), Ambiguous> {
        self.longest_prefix = self.longest_prefix.max(route.path.len());
        let same = self.by_prefix.entry(route.path.clone()).or_default();
        if same.iter().any(|other| route.shares_methods(other)) {
            let (host, path) = (route.host.to_string(), route.path);
            return Err(Ambiguous { host, path });
        }
        same.push(Arc::new(route));
        // Routes that name methods come before the one that takes what is left.
        same.sort_by_key(|route| route.methods.is_empty());
        Ok(())
    }

    /// The methods that a path is served to, for `Allow`.
    pub fn methods(&self, path: &str) -> String {
        let candidates = [
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ];
        let served = candidates
            .iter()
            .filter(|method| self.find(method, path).is_ok());
        let names: Vec<&str> = served.map(Method::as_str).collect();
        names.join(", ")
    }

    /// The route for a normalised path. Prefixes end at segment boundaries: `/app` covers `/app` and `/app/x`, not
    /// `/apple`. The longest prefix decides alone: where it does not serve the method, no shorter one steps in.
    pub fn find(&self, method: &Method, path: &str) -> Result<&Arc<Route>, NoRoute> {
        let mut prefix = path;
        loop {
            let known = prefix.len() <= self.longest_prefix;
            if let Some(routes) = known.then(|| self.by_prefix.get(prefix)).flatten() {
                let serves = |route: &&Arc<Route>| {
                    route.methods.is_empty() || route.methods.contains(method)
                };
                return routes.iter().find(serves).ok_or(NoRoute::Method);
            }
            prefix = match prefix.rfind('/') {
                Some(0) if prefix.len() > 1 => "/",
                Some(end) if end > 0 => prefix.get(..end).unwrap_or("/"),
                _ => return Err(NoRoute::NotFound),
            };
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    pub(crate) fn route(host: &str, path: &str) -> Route {
        Route {
            number: 0,
            id: format!("{host}{path}"),
            host: HostPattern::parse(host).unwrap(),
            path: path.to_owned(),
            methods: vec![],
            access: Access::User,
            cors_origins: Vec::new(),
            session_data: None,
            cookie_jar: None,
            keep_posts: None,
            logout: None,
            on_end: None,
            assertion: None,
            clients: None,
            may_log_in: None,
            upstream: Some(0),
            allow: BTreeSet::new(),
            idle_timeout: None,
            max_auth_age: None,
            acr_values: Vec::new(),
            provider: None,
            caching: Caching::App,
            activity: true,
            strip_prefix: None,
            add_prefix: None,
            send_host: None,
            timeouts: Timeouts {
                connect: Duration::from_secs(5),
                first_byte: Duration::from_mins(1),
                idle: Duration::from_mins(5),
            },
            max_body: None,
            request_headers: Edits::default(),
            response_headers: Edits::default(),
        }
    }

    fn found(table: &RouteTable, host: &str, path: &str) -> Option<String> {
        let routes = table.host(host)?;
        routes
            .find(&Method::GET, path)
            .ok()
            .map(|route| route.id.clone())
    }

    #[test]
    fn the_most_specific_route_wins_whatever_the_order() {
        let mut routes = vec![
            route("a.example.com", "/"),
            route("a.example.com", "/app"),
            route("a.example.com", "/app/admin"),
            route("*.example.com", "/"),
            route("*.dev.example.com", "/"),
        ];
        for _ in 0..routes.len() {
            routes.rotate_left(1);
            let table = RouteTable::new(routes.clone()).unwrap();
            for (host, path, id) in [
                ("a.example.com", "/", "a.example.com/"),
                ("a.example.com", "/apple", "a.example.com/"),
                ("a.example.com", "/app", "a.example.com/app"),
                ("a.example.com", "/app/", "a.example.com/app"),
                ("a.example.com", "/app/admin/x", "a.example.com/app/admin"),
                ("a.example.com", "/app/administrator", "a.example.com/app"),
                ("b.example.com", "/app", "*.example.com/"),
                ("x.y.dev.example.com", "/", "*.dev.example.com/"),
            ] {
                assert_eq!(
                    found(&table, host, path).as_deref(),
                    Some(id),
                    "{host}{path}"
                );
            }
        }
    }

    #[test]
    fn what_no_route_names_is_not_found() {
        let table = RouteTable::new(vec![route("a.example.com", "/app"), route("*.b.com", "/")]);
        let table = table.unwrap();
        assert_eq!(found(&table, "a.example.com", "/"), None);
        assert_eq!(found(&table, "a.example.com", "/apple"), None);
        assert!(
            !table.serves("b.com"),
            "a wildcard needs a label in its place"
        );
        assert!(!table.serves("example.com"));
        assert!(!table.serves(""));
    }

    #[test]
    fn the_longest_prefix_decides_alone_about_methods() {
        let mut narrow = route("a", "/app");
        narrow.methods = vec![Method::GET];
        let table = RouteTable::new(vec![route("a", "/"), narrow]).unwrap();
        let routes = table.host("a").unwrap();
        assert!(routes.find(&Method::GET, "/app/x").is_ok());
        assert_eq!(
            routes.find(&Method::POST, "/app/x").unwrap_err(),
            NoRoute::Method
        );
        assert!(routes.find(&Method::POST, "/other").is_ok());
    }

    #[test]
    fn routes_that_nothing_tells_apart_are_refused() {
        let twice = RouteTable::new(vec![route("a", "/x"), route("a", "/x")]);
        assert_eq!(
            twice.unwrap_err(),
            Ambiguous {
                host: "a".into(),
                path: "/x".into()
            }
        );
        let (mut read, rest) = (route("a", "/x"), route("a", "/x"));
        read.methods = vec![Method::GET];
        assert!(RouteTable::new(vec![read.clone(), rest]).is_ok());
        assert!(RouteTable::new(vec![read.clone(), read]).is_err());
    }
}
