//! What every request with a cookie pays: find it, hash it, look it up, judge. Nothing here waits for a store.
#![expect(
    clippy::unwrap_used,
    reason = "a bench that fails is to say so at once"
)]

mod fixtures;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use doorward::session::store::Memory;
use doorward::session::{CookieName, Found, Presence, Sessions, Settings};
use http::{HeaderMap, HeaderValue, header};
use tokio::runtime::Runtime;

/// Sessions in use at once: more than any cache of the processor holds.
const SESSIONS: u64 = 10_000;

const PRESENCE: Presence = Presence {
    idle_timeout: None,
    activity: true,
};

/// The `Cookie` field of a browser that has just logged in, between two of the app's own.
async fn cookies(sessions: &Sessions, number: u64) -> HeaderMap {
    let issued = sessions.issue(fixtures::login(number)).await.unwrap();
    let set = issued.cookie.to_str().unwrap();
    let ours = set.split(';').next().unwrap();
    let field = format!("theme=dark; {ours}; cart=0123456789abcdef");
    HeaderMap::from_iter([(header::COOKIE, HeaderValue::try_from(field).unwrap())])
}

fn token<'a>(name: &CookieName, headers: &'a HeaderMap) -> &'a [u8] {
    let Found::One(token) = name.find(headers) else {
        unreachable!("there is one cookie of this name");
    };
    token
}

fn bench(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let store = Arc::new(Memory::new());
    let (sessions, _touches) =
        fixtures::sessions(store, Settings::default(), runtime.handle().clone());
    let browsers: Vec<HeaderMap> = runtime.block_on(async {
        let mut browsers = Vec::new();
        for number in 0..SESSIONS {
            browsers.push(cookies(&sessions, number).await);
        }
        browsers
    });
    let name = sessions.settings().cookie.clone();
    let one = browsers.first().unwrap();
    let mut group = criterion.benchmark_group("session");
    group.bench_function("find the cookie", |bencher| {
        bencher.iter(|| name.find(black_box(one)));
    });
    group.bench_function("authenticate one", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            sessions
                .authenticate(token(&name, one), PRESENCE)
                .await
                .unwrap()
        });
    });
    let mut turn = browsers.iter().cycle();
    group.bench_function("authenticate one of 10000", |bencher| {
        bencher.to_async(&runtime).iter(|| {
            let token = token(&name, turn.next().unwrap());
            let sessions = &sessions;
            async move { sessions.authenticate(token, PRESENCE).await.unwrap() }
        });
    });
    let live = runtime
        .block_on(sessions.authenticate(token(&name, one), PRESENCE))
        .unwrap();
    group.bench_function("still good", |bencher| {
        bencher.iter(|| sessions.still_good(black_box(&live), PRESENCE));
    });
    let stranger = [b'A'; 43];
    group.bench_function("an unknown token", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            sessions
                .authenticate(&stranger, PRESENCE)
                .await
                .unwrap_err()
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
