//! From a request's path to its route: one reading of the path, then the table.
#![expect(
    clippy::unwrap_used,
    reason = "a bench that fails is to say so at once"
)]

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use doorward::pipeline::path::normalise;
use doorward::routing::{Access, Caching, Edits, HostPattern, Route, RouteTable, Timeouts};
use http::Method;

fn route(host: &str, path: &str) -> Route {
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

/// Ten routes on each host, a wildcard among them.
fn table(routes: usize) -> RouteTable {
    let route = |number: usize| match number {
        0 => route("*.example.com", "/"),
        _ => route(
            &format!("host{}.example.com", number / 10),
            &format!("/app/{}", number % 10),
        ),
    };
    RouteTable::new((0..routes).map(route).collect()).unwrap()
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for routes in [10, 1000] {
        let table = table(routes);
        let host = format!("host{}.example.com", routes / 20);
        group.bench_function(BenchmarkId::new("find", routes), |bencher| {
            bencher.iter(|| {
                let host = table.host(black_box(&host)).unwrap();
                host.find(&Method::GET, black_box("/app/5/wiki/page/42"))
                    .unwrap()
            });
        });
        group.bench_function(BenchmarkId::new("find by wildcard", routes), |bencher| {
            bencher.iter(|| {
                let host = table.host(black_box("other.dev.example.com")).unwrap();
                host.find(&Method::GET, black_box("/app/5/wiki/page/42"))
                    .unwrap()
            });
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("path");
    for (name, path) in [
        ("plain", "/wiki/spaces/team/pages/42/attachments/plan.pdf"),
        (
            "odd",
            "/wiki/./spaces/%74eam/../pages/42/attachments/pl%61n%c3%a4.pdf",
        ),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| normalise(black_box(path)).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
