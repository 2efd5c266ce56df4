//! Load from end to end: an app, the real doorward in front of it, and a client that asks both in turns, each a
//! process of its own on loopback. `cargo bench --bench load [-- --seconds 30 --connections 32]`. With `--logins 100`,
//! what so many logins a second do to those who are logged in.
//!
//! All three share the machine's cores, so requests per second say how one lane compares with another in the same run;
//! the processor time of doorward per request is what carries over to other machines.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench that fails is to say so at once, and prints what it found"
)]
#![expect(unreachable_pub, reason = "nothing outside reaches into a bench")]

mod app;
mod client;
mod lane;
mod proxy;
mod report;
mod storm;

use std::sync::Arc;
use std::time::Duration;

use app::App;
use lane::{Lane, Result};
use proxy::Proxy;
use storm::Storm;

/// Each lane's share of the time comes in this many slices, so that what disturbs the machine disturbs all of them.
const ROUNDS: u32 = 5;
/// Before a round is counted: caches fill, pools open.
const WARM_UP: Duration = Duration::from_millis(300);

struct Options {
    seconds: f64,
    connections: usize,
    /// A second; 0 is no storm.
    logins: u32,
    /// Both measurements, each for a moment.
    quick: bool,
}

impl Options {
    /// Cargo says `--bench` to a bench and nothing to a test of one, which is to be quick.
    fn of(arguments: &[String]) -> Self {
        let value = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name)?;
            let value = arguments
                .get(at + 1)
                .and_then(|value| value.parse::<f64>().ok());
            Some(value.unwrap_or_else(|| panic!("{name} needs a number")))
        };
        let has = |name: &str| arguments.iter().any(|argument| argument == name);
        let quick = has("--test") || !has("--bench");
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "somebody typed it"
        )]
        let whole = |name: &str, default| value(name).map_or(default, |number| number as u32);
        Self {
            seconds: value("--seconds").unwrap_or(if quick { 1.0 } else { 30.0 }),
            connections: whole("--connections", 32).max(1) as usize,
            logins: whole("--logins", if quick { 20 } else { 0 }),
            quick,
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments
        .first()
        .is_some_and(|first| first == app::ARGUMENT)
    {
        return app::serve();
    }
    let options = Options::of(&arguments);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.unwrap().block_on(run(&options));
}

async fn run(options: &Options) {
    let app = app::start();
    let proxy = Arc::new(Proxy::start(app.addr).await);
    let cookie = client::log_in(&proxy).await;
    if options.logins == 0 || options.quick {
        compare(options, (&app, &proxy), &cookie).await;
    }
    if options.logins > 0 {
        beside_logins(options, &proxy, &cookie).await;
    }
}

async fn beside_logins(options: &Options, proxy: &Arc<Proxy>, cookie: &str) {
    let slices = storm::ROUNDS * 2;
    let storm = Storm {
        logins_per_second: options.logins,
        slice: Duration::from_secs_f64(options.seconds) / slices,
    };
    let askers = client::http1(proxy, cookie, options.connections).await;
    let findings = storm::measure(storm, proxy, askers).await;
    print!("{}", report::beside_logins(storm, &findings));
}

async fn compare(options: &Options, (app, proxy): (&App, &Proxy), cookie: &str) {
    let count = options.connections;
    let mut lanes = vec![
        Lane::new("app alone, HTTP/1.1", client::direct(app.addr, count).await),
        Lane::new(
            "doorward, HTTP/1.1 and TLS",
            client::http1(proxy, cookie, count).await,
        ),
        Lane::new(
            "doorward, HTTP/2 and TLS",
            client::http2(proxy, cookie, count).await,
        ),
    ];
    let slices = ROUNDS * u32::try_from(lanes.len()).unwrap();
    let slice = Duration::from_secs_f64(options.seconds) / slices;
    println!("{count} requests at once, {ROUNDS} slices of {slice:.1?} for each lane");
    let mut results: Vec<Result> = lanes.iter().map(|lane| Result::new(lane.name)).collect();
    for lane in &mut lanes {
        lane.run(WARM_UP.min(slice), proxy, None).await;
    }
    for _ in 0..ROUNDS {
        for (lane, result) in lanes.iter_mut().zip(&mut results) {
            lane.run(slice, proxy, Some(result)).await;
        }
    }
    print!("{}", report::table(&results));
}
