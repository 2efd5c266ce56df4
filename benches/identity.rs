//! What the app is told about the user: nothing that the client said, everything that the session says.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use doorward::identity::{
    FoldedNames, HeaderLayout, Identity, IdentityHeaders, Preset, Subject, strip,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What Firefox sends for a page.
const BROWSER: [(&str, &str); 14] = [
    ("host", "wiki.example.com"),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    ),
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    ),
    ("accept-language", "en-GB,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://wiki.example.com/"),
    ("connection", "keep-alive"),
    ("cookie", "theme=dark"),
    ("upgrade-insecure-requests", "1"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-user", "?1"),
    ("priority", "u=0, i"),
];

fn headers(more: &[(&'static str, &'static str)]) -> HeaderMap {
    let all = BROWSER.iter().chain(more);
    all.map(|&(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    })
    .collect()
}

fn bench(criterion: &mut Criterion) {
    let layout = HeaderLayout::preset(Preset::Remote);
    let (identity, forwarding) = (FoldedNames::identity(&layout), FoldedNames::forwarding());
    let mut group = criterion.benchmark_group("identity");
    let mut ordinary = headers(&[]);
    group.bench_function("strip nothing of a browser's", |bencher| {
        bencher.iter(|| strip(black_box(&mut ordinary), &[&identity, &forwarding]));
    });
    let spoofed = headers(&[("remote-user", "root"), ("x-forwarded-for", "192.0.2.1")]);
    group.bench_function("strip two that were forged", |bencher| {
        let strip =
            |mut headers: HeaderMap| (strip(&mut headers, &[&identity, &forwarding]), headers);
        bencher.iter_batched(|| spoofed.clone(), strip, BatchSize::SmallInput);
    });
    let alice = Identity {
        subject: Subject {
            provider: "local".into(),
            id: "alice".into(),
        },
        user: "alice".into(),
        name: Some("Alice Liddell".into()),
        email: Some("alice@example.com".into()),
        groups: vec!["staff".into(), "wiki admins".into()],
    };
    group.bench_function("prepare", |bencher| {
        bencher.iter(|| IdentityHeaders::new(&layout, black_box(&alice)));
    });
    let ready = IdentityHeaders::new(&layout, &alice);
    let mut told = headers(&[]);
    group.bench_function("insert", |bencher| {
        bencher.iter(|| ready.insert(black_box(&mut told)));
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
