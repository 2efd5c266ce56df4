//! A real proxy in front that asks, and what its client can do about it: be somebody else, come from elsewhere, or outlast
//! the one that is asked.

use tokio::net::TcpStream;

use crate::support::{
    Browser, Front, Kind, Proxy, Raw, Reply, Upstream, eventually, proxy, upstream,
};

const KINDS: [Kind; 5] = [
    Kind::Caddy,
    Kind::Envoy,
    Kind::Haproxy,
    Kind::Nginx,
    Kind::Traefik,
];
const ELSEWHERE: &str = "203.0.113.9";

async fn asking(kind: Kind) -> (Upstream, Proxy, Front) {
    let app = upstream(|_| Reply::ok("from the app")).await;
    let proxy = proxy()
        .with("server", "trusted_proxies = [\"127.0.0.1\"]")
        .route("/", "none", "access = \"user\"")
        .route("/public", "none", "access = \"public\"")
        .start();
    let front = Front::start(kind, &proxy, &app).await;
    (app, proxy, front)
}

async fn alice(front: &Front) -> Browser {
    let mut browser = front.browser();
    browser.log_in("alice").await;
    browser
}

#[tokio::test]
async fn while_doorward_is_away_nobody_gets_through() {
    for kind in KINDS {
        let (app, proxy, front) = asking(kind).await;
        let mut known = alice(&front).await;
        assert_eq!(known.fetch("/wiki").await.status, 200, "{kind:?}");
        let (before, addr) = (app.requests().len(), proxy.addr);
        let _folder = proxy.stop().await;
        eventually("nobody to listen", async || {
            TcpStream::connect(addr).await.is_err()
        })
        .await;
        for path in ["/wiki", "/public", "/.doorward/login", "/.doorward/session"] {
            for browser in [&mut known, &mut front.browser()] {
                let answer = browser.fetch(path).await;
                let status = answer.status;
                assert!(status.is_server_error(), "{kind:?} {path}: {status}");
                assert_eq!(answer.header("remote-user"), "", "{kind:?} {path}");
            }
        }
        assert_eq!(app.requests().len(), before, "{kind:?}");
    }
}

#[tokio::test]
async fn no_client_says_where_it_comes_from_or_which_host_it_wants() {
    for kind in KINDS {
        let (app, proxy, front) = asking(kind).await;
        let mut browser = front.browser();
        browser.fields = [
            ("x-forwarded-for", ELSEWHERE),
            ("x-real-ip", ELSEWHERE),
            ("forwarded", "for=203.0.113.9;host=evil.example;proto=http"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-uri", "/public"),
            ("x-original-url", "https://localhost/public"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let page = browser.open("/wiki").await;
        let own = format!("https://{}/", browser.authority());
        assert_eq!(page.status, 303, "{kind:?}: {}", page.text());
        assert!(page.header("location").starts_with(&own), "{kind:?}");
        assert!(app.requests().is_empty(), "{kind:?}");

        browser.log_in("alice").await;
        assert_eq!(browser.fetch("/wiki").await.status, 200, "{kind:?}");
        proxy.audited("login_succeeded").await;
        let told = proxy.audit();
        let believed = told
            .iter()
            .find(|line| line.to_string().contains(ELSEWHERE));
        assert_eq!(believed, None, "{kind:?}");
    }
}

/// A field that `Connection` names is for one hop only: who names those that tell who it is must not lose or change them.
#[tokio::test]
async fn no_client_takes_the_fields_of_identity_away() {
    for kind in KINDS {
        let (app, _proxy, front) = asking(kind).await;
        let known = alice(&front).await;
        for named in [
            "Remote-User, Remote-Groups, Cookie",
            "X-Forwarded-Uri, X-Forwarded-Method",
        ] {
            let before = app.requests().len();
            let mut raw: Raw = front.raw().await;
            raw.send(format!(
                "GET /wiki HTTP/1.1\r\nhost: localhost:{}\r\nconnection: close, {named}\r\n\
                 remote-user: root\r\ncookie: __Host-sid={}\r\n\r\n",
                front.addr.port(),
                known.token()
            ))
            .await;
            let answer = String::from_utf8_lossy(&raw.rest().await).into_owned();
            let reached = app.requests().split_off(before);
            assert_eq!(
                answer.starts_with("HTTP/1.1 200 "),
                reached.len() == 1,
                "{kind:?} {named}: {answer}"
            );
            for request in reached {
                let head = &request.head;
                assert_eq!(
                    request.all("remote-user"),
                    ["alice"],
                    "{kind:?} {named}: {head}"
                );
                assert!(!head.contains(known.token()), "{kind:?} {named}: {head}");
            }
        }
    }
}
