//! Logging in with a local user, as a browser sees it.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;

use crate::support::{
    Answer, Browser, PASSWORD, Proxy, ProxyBuilder, Reply, Upstream, proxy, upstream,
};

#[tokio::test]
async fn a_page_without_a_session_leads_through_login_and_back() {
    let app = upstream(|_| Reply::ok("hello")).await;
    let proxy = proxy().app(&app.url()).start();
    let mut browser = proxy.browser();
    let answer = browser.open("/wiki/page?x=1&y=%2F").await;
    assert_eq!(answer.status, 303);
    assert_eq!(
        answer.header("location"),
        "/.doorward/login?return_to=%2Fwiki%2Fpage%3Fx%3D1%26y%3D%252F"
    );
    assert!(app.requests().is_empty(), "nobody got through");

    let answer = browser
        .log_in_at("/wiki/page?x=1&y=%2F", "alice", PASSWORD)
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, "/wiki/page?x=1&y=%2F")
    );
    assert_eq!(browser.open("/wiki/page?x=1&y=%2F").await.text(), "hello");

    let request = app.only();
    assert_eq!(request.line(), "GET /wiki/page?x=1&y=%2F HTTP/1.1");
    assert_eq!(request.one("remote-user"), "alice");
    assert_eq!(request.one("remote-groups"), "staff");
    assert_eq!(request.one("remote-email"), "alice@example.org");
    assert_eq!(request.one("remote-name"), "alice %C3%9Cnder");
    assert!(request.all("cookie").is_empty(), "{}", request.head);
}

#[tokio::test]
async fn the_same_over_http2() {
    let app = upstream(|_| Reply::ok("hello")).await;
    let proxy = proxy().app(&app.url()).start();
    let mut browser = proxy.browser().over_http2();
    browser.log_in("alice").await;
    assert_eq!(browser.open("/").await.text(), "hello");
    assert_eq!(app.only().one("via"), "2.0 doorward");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_are_told_the_same() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy().app(&app.url()).start();
    let mut texts = Vec::new();
    for user in ["alice", "nobody"] {
        let mut browser = proxy.browser();
        let answer = browser.log_in_at("/", user, "wrong").await;
        assert_eq!(answer.status, 401);
        assert_eq!(browser.token(), "");
        texts.push(
            answer
                .text()
                .replace(user, "USER")
                .replace(&answer.field("state"), "STATE"),
        );
    }
    assert_eq!(texts[0], texts[1]);
    let events = proxy.audited_times("login_failed", 2).await;
    assert_eq!(
        (&events[0]["user"], &events[1]["user"]),
        (&"alice".into(), &"nobody".into())
    );
    assert!(app.requests().is_empty());
}

#[tokio::test]
async fn any_number_of_tabs_log_in_at_once_and_each_returns_to_its_page() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy().app(&app.url()).start();
    let mut browser = proxy.browser();
    let mut states = Vec::new();
    for tab in ["/one", "/two", "/three"] {
        states.push((tab, browser.follow(tab).await.field("state")));
    }
    for (tab, state) in states {
        let form = [
            ("state", state.as_str()),
            ("user", "alice"),
            ("password", PASSWORD),
        ];
        let answer = browser.submit("/.doorward/login", &form).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("location")),
            (303, tab)
        );
    }
}

#[tokio::test]
async fn thirty_tabs_at_once_share_one_small_cookie_and_each_returns_to_its_page() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy().app(&app.url()).start();
    let mut browser = proxy.browser();
    browser.follow("/first").await;
    let before = browser.jar.clone();
    assert_eq!(before.len(), 1);
    assert!(before["__Host-sid-browser"].len() < 160, "{before:?}");
    let mut tabs: Vec<Browser> = (0..30).map(|_| browser.clone()).collect();
    let paths: Vec<String> = (0..30).map(|tab| format!("/tab/{tab}?x=%2F")).collect();
    let opened = tabs.iter_mut().zip(&paths);
    let opened = opened.map(|(tab, path)| async {
        let form = tab.follow(path).await;
        assert_eq!(form.set_cookies(), [""; 0], "there is one for all of them");
        form.field("state")
    });
    let states = futures_util::future::join_all(opened).await;
    for (path, state) in paths.iter().zip(&states) {
        let form = [
            ("state", &**state),
            ("user", "alice"),
            ("password", PASSWORD),
        ];
        let answer = browser.submit("/.doorward/login", &form).await;
        let seen = (answer.status.as_u16(), answer.header("location"));
        assert_eq!(seen, (303, path.as_str()));
    }
    let sizes: usize = browser.jar.values().map(String::len).sum();
    assert!(browser.jar.len() == 2 && sizes < 250, "{:?}", browser.jar);
}

/// As when a browser opens again what was open when it was closed: none of the tabs has the cookie of another yet.
#[tokio::test]
async fn tabs_that_a_browser_opens_again_all_at_once_each_return_to_their_page() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy().app(&app.url()).start();
    let mut states = Vec::new();
    let mut browser = proxy.browser();
    for tab in 0..30 {
        let mut fresh = proxy.browser();
        let page = fresh.follow(&format!("/tab/{tab}")).await;
        states.push(page.field("state"));
        // The last one that came is what the browser keeps.
        browser.jar = fresh.jar;
    }
    for (tab, state) in states.into_iter().enumerate() {
        let place = format!("/.doorward/login?return_to=%2Ftab%2F{tab}");
        let mut form = vec![("state", state), ("user", "alice".to_owned())];
        form.push(("password", PASSWORD.to_owned()));
        let mut answer = browser.submit(&place, &borrowed(&form)).await;
        if answer.status != 303 {
            assert!(
                answer.text().contains("value=\"alice\""),
                "no name is typed twice"
            );
            form[0].1 = answer.field("state");
            answer = browser.submit(&place, &borrowed(&form)).await;
        }
        let seen = (answer.status.as_u16(), answer.header("location"));
        assert_eq!(seen, (303, format!("/tab/{tab}").as_str()));
    }
    assert_eq!(browser.jar.len(), 2, "{:?}", browser.jar);
}

fn borrowed<'a>(form: &'a [(&'a str, String)]) -> Vec<(&'a str, &'a str)> {
    let fields = form.iter();
    fields
        .map(|(name, value)| (*name, value.as_str()))
        .collect()
}

#[tokio::test]
async fn what_browsers_fetch_by_themselves_changes_no_login_on_its_way() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy().app(&app.url()).start();
    let mut browser = proxy.browser();
    let state = browser.follow("/wiki").await.field("state");
    let before = browser.jar.clone();
    for (path, dest, mode) in [
        ("/favicon.ico", "image", "no-cors"),
        ("/app.webmanifest", "manifest", "cors"),
        ("/sw.js", "serviceworker", "same-origin"),
        ("/api/poll", "empty", "cors"),
    ] {
        let fields = [("sec-fetch-dest", dest), ("sec-fetch-mode", mode)];
        let answer = browser.request(Method::GET, path, &fields, "").await;
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.set_cookies().is_empty(), "{path}");
        assert!(!answer.text().contains(&path[1..5]), "{}", answer.text());
    }
    assert_eq!(browser.jar, before);
    let form = [
        ("state", state.as_str()),
        ("user", "alice"),
        ("password", PASSWORD),
    ];
    let answer = browser.submit("/.doorward/login", &form).await;
    assert_eq!(answer.header("location"), "/wiki");
}

#[tokio::test]
async fn a_browser_that_keeps_no_cookies_is_told_so() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy().app(&app.url()).start();
    let mut browser = proxy.browser();
    for round in 0..5 {
        let state = browser.follow("/wiki").await.field("state");
        browser.jar.clear();
        let form = [
            ("state", state.as_str()),
            ("user", "alice"),
            ("password", PASSWORD),
        ];
        let answer = browser
            .submit("/.doorward/login?return_to=/wiki", &form)
            .await;
        assert_eq!(answer.status, 400, "{round}");
        assert!(answer.text().contains("sent no cookie back"));
        assert_eq!(browser.token(), "");
        browser.jar.clear();
    }
}

/// Whoever drops the session's cookie and keeps the other logs in, and is back at the form.
async fn log_in_and_lose_it(browser: &mut Browser, lose: impl Fn(&mut Browser)) {
    let answer = browser.log_in_at("/wiki?x=1", "alice", PASSWORD).await;
    assert_eq!(answer.header("location"), "/wiki?x=1");
    lose(browser);
}

type Lose<'a> = &'a dyn Fn(&mut Browser);

#[tokio::test]
async fn logins_that_go_round_stop_after_three_with_the_likely_cause() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy()
        .app(&app.url())
        .route(
            "/bank",
            &app.url(),
            "access = \"user\"\nmax_auth_age = \"30s\"",
        )
        .start();
    let unknown = "A".repeat(43);
    let cases: [(&str, Lose<'_>); 2] = [
        ("does not send back the cookie", &|browser| {
            browser.jar.remove("__Host-sid");
        }),
        ("the site does not know it", &|browser| {
            browser.jar.insert("__Host-sid".to_owned(), unknown.clone());
        }),
    ];
    for (cause, lose) in cases {
        let mut browser = proxy.browser();
        for _ in 0..3 {
            log_in_and_lose_it(&mut browser, lose).await;
        }
        let login = browser
            .open("/wiki?x=1")
            .await
            .header("location")
            .to_owned();
        lose(&mut browser);
        let stopped = browser.open(&login).await;
        assert_eq!(stopped.status, 400, "{cause}");
        let text = stopped.text();
        assert!(text.contains("goes round in circles"), "{text}");
        assert!(text.contains(cause), "{text}");
        assert!(!text.contains("name=\"password\""));
        // The button leads on, and so does a minute of patience.
        let again = asked_by(&stopped, "return_to=%2Fwiki%3Fx%3D1&again=yes");
        assert!(!browser.open(&again).await.field("state").is_empty());
        proxy.clock.advance(std::time::Duration::from_mins(1));
        assert!(!browser.open(&login).await.field("state").is_empty());
    }
    // Cookies of another site of the domain come in place of the session's.
    let mut browser = logged_in_thrice(&proxy).await;
    let others = format!("{unknown}; __Host-sid={}", "B".repeat(43));
    browser.jar.insert("__Host-sid".to_owned(), others);
    let stopped = browser.open("/.doorward/login?return_to=%2Fwiki").await;
    assert!(stopped.text().contains("more than one cookie"));
    // Who is sent to log in anew, moments after a login, meets a clock that differs.
    let mut browser = logged_in_thrice(&proxy).await;
    proxy.clock.advance(std::time::Duration::from_secs(31));
    let stopped = browser.follow("/bank").await;
    assert!(stopped.text().contains("clocks of its machines differ"));
    let again = asked_by(&stopped, "return_to=%2Fbank&again=yes&prompt=login");
    assert!(!browser.open(&again).await.field("state").is_empty());
}

/// What a form that only asks leads to: the login page, with these of its fields.
fn asked_by(page: &Answer, query: &str) -> String {
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        assert_eq!(page.field(&name).replace("&#x2f;", "/"), value);
    }
    assert!(
        page.text().contains("<form method=\"get\">"),
        "{}",
        page.text()
    );
    format!("/.doorward/login?{query}")
}

fn two_hosts(app: &Upstream) -> ProxyBuilder {
    let builder = proxy().app(&app.url());
    builder.route_at("wiki.example.test", "/", &app.url(), "access = \"user\"")
}

/// A page of the other one, on the same port.
fn wiki(proxy: &Proxy) -> (String, String) {
    let page = format!("https://wiki.example.test:{}/page?x=1", proxy.addr.port());
    let encoded = url::form_urlencoded::byte_serialize(page.as_bytes()).collect();
    (page, encoded)
}

#[tokio::test]
async fn who_is_sent_round_between_two_hosts_is_told_that_a_login_counts_on_one() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = two_hosts(&app).start();
    let (page, encoded) = wiki(&proxy);
    let mut browser = proxy.browser();
    // The other host does not see the session of this one, and asks for a new login each time.
    let login = format!("/.doorward/login?prompt=login&return_to={encoded}");
    for _ in 0..3 {
        let answer = browser.log_in_at(&login, "alice", PASSWORD).await;
        assert_eq!(answer.header("location"), page);
    }
    let stopped = browser.open(&login).await;
    assert_eq!(stopped.status, 400);
    let text = stopped.text();
    assert!(
        text.contains("your session is for this one alone"),
        "{text}"
    );
    asked_by(
        &stopped,
        &format!("return_to={encoded}&again=yes&prompt=login"),
    );
    // A cookie that does not even come back here is what is wrong, wherever the way leads.
    browser.jar.remove("__Host-sid");
    let stopped = browser.open(&login).await;
    assert!(stopped.text().contains("does not send back the cookie"));
}

#[tokio::test]
async fn who_is_logged_in_goes_on_and_is_warned_of_a_host_where_that_does_not_count() {
    const WARNING: &str = "logging in does not reach it";
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = two_hosts(&app).start();
    let (page, encoded) = wiki(&proxy);
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    let own = format!(
        "https%3A%2F%2F{}%2Fa",
        browser.authority().replace(':', "%3A")
    );
    for (to, leads, is_warned) in [
        ("%2Fwiki%3Fx%3D1", "/wiki?x=1", false),
        (&own, &format!("https://{}/a", browser.authority()), false),
        (&encoded, &page, true),
        ("https%3A%2F%2Fevil.example%2F", "/", false),
    ] {
        let shown = browser
            .open(&format!("/.doorward/login?return_to={to}"))
            .await;
        assert_eq!(shown.status, 200);
        assert_eq!(
            shown.text().contains(WARNING),
            is_warned,
            "{}",
            shown.text()
        );
        let to: String = url::form_urlencoded::byte_serialize(leads.as_bytes()).collect();
        let on = asked_by(&shown, &format!("return_to={to}&continue=yes"));
        let gone = browser.open(&on).await;
        assert_eq!(
            (gone.status.as_u16(), gone.header("location")),
            (303, leads)
        );
    }
    // Without a session there is nothing to go on with, and who has to log in anew does not go on either.
    let on = "/.doorward/login?return_to=%2Fwiki&continue=yes";
    assert!(!proxy.browser().open(on).await.field("state").is_empty());
    let anew = browser.open(&format!("{on}&prompt=login")).await;
    assert!(!anew.field("state").is_empty());
}

/// With a session that lives.
async fn logged_in_thrice(proxy: &Proxy) -> Browser {
    let mut browser = proxy.browser();
    for _ in 0..2 {
        browser.log_in("alice").await;
        browser.jar.remove("__Host-sid");
    }
    browser.log_in("alice").await;
    browser
}

#[tokio::test]
async fn who_logs_out_may_log_in_as_often_as_they_like() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy().app(&app.url()).start();
    let mut browser = proxy.browser();
    for _ in 0..5 {
        browser.log_in("alice").await;
        browser.log_out().await;
    }
}

#[tokio::test]
async fn a_form_of_another_browser_is_good_for_nothing() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy().app(&app.url()).start();
    let (mut victim, mut attacker) = (proxy.browser(), proxy.browser());
    let state = attacker.follow("/").await.field("state");
    victim.follow("/").await;
    let form = [
        ("state", state.as_str()),
        ("user", "alice"),
        ("password", PASSWORD),
    ];
    let answer = victim.submit("/.doorward/login", &form).await;
    assert_eq!(answer.status, 400);
    assert_eq!(victim.token(), "");
}

#[tokio::test]
async fn a_login_that_another_site_sends_is_refused() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy().app(&app.url()).start();
    let mut browser = proxy.browser();
    let state = browser.follow("/").await.field("state");
    let body = format!("state={state}&user=alice&password=correct+horse+battery");
    let kind = ("content-type", "application/x-www-form-urlencoded");
    for sign in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let answer = browser
            .request(Method::POST, "/.doorward/login", &[kind, sign], &body)
            .await;
        assert_eq!(answer.status, 403, "{sign:?}");
        assert_eq!(browser.token(), "", "{sign:?}");
    }
    assert_eq!(proxy.audited("cross_site_refused").await["place"], "login");
}

#[tokio::test]
async fn nothing_is_stored_before_a_login_and_one_record_after() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy().app(&app.url()).embedded().start();
    let mut browser = proxy.browser();
    for _ in 0..5 {
        browser.follow("/").await;
        browser.log_in_at("/", "alice", "wrong").await;
    }
    assert_eq!(proxy.sessions().stored().await.unwrap(), 0);
    browser.log_in("alice").await;
    assert_eq!(proxy.sessions().stored().await.unwrap(), 1);
}

#[tokio::test]
async fn a_new_login_ends_the_session_that_the_browser_had() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy().app(&app.url()).start();
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    let before = browser.clone();
    // The form was open before the first login, in another tab.
    let state = Browser::clone(&before)
        .request(Method::GET, "/.doorward/login", &[], "")
        .await;
    assert!(
        state.text().contains("alice"),
        "who is logged in is told so"
    );
    let mut other = before.clone();
    other.jar.remove("__Host-sid");
    let state = other.follow("/").await.field("state");
    let form = [
        ("state", state.as_str()),
        ("user", "bob"),
        ("password", PASSWORD),
    ];
    let answer = browser.submit("/.doorward/login", &form).await;
    assert_eq!(answer.status, 303);
    assert_ne!(browser.token(), before.token());
    let mut old = before;
    assert_eq!(old.fetch("/").await.status, 401);
    assert_eq!(browser.fetch("/").await.status, 200);
}

#[tokio::test]
async fn programs_are_told_and_never_redirected() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy().app(&app.url()).start();
    let mut browser = proxy.browser();
    let answer = browser.fetch("/api?x=1").await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.json()["error"], "login_required");
    assert_eq!(
        answer.json()["login_url"],
        "/.doorward/login?return_to=%2F",
        "a login does not lead to what a script asked for"
    );
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(!answer.header("www-authenticate").is_empty());
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    let answer = browser
        .request(Method::POST, "/pkg.Service/Call", &grpc, "")
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("grpc-status")),
        (200, "16")
    );
    assert!(app.requests().is_empty());
}

#[tokio::test]
async fn a_login_leads_to_another_host_of_ours_at_the_port_that_is_used_and_no_other() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy()
        .app(&app.url())
        .route_at("wiki.example.test", "/", &app.url(), "access = \"user\"")
        .start();
    let browser = proxy.browser();
    let wiki = "https://wiki.example.test:1111/page";
    for (return_to, begins_at, ends_at, expected) in [
        (wiki, "localhost:1111", "localhost:1111", wiki),
        (
            "https://wiki.example.test:9/x",
            "localhost:1111",
            "localhost:1111",
            "/",
        ),
        // Judged again at the end: what was ours when the form was shown need not be ours now.
        (wiki, "localhost:1111", "localhost:2222", "/"),
    ] {
        let empty = || Full::new(Bytes::new());
        let request = Request::get(format!("/.doorward/login?return_to={return_to}"))
            .header("host", begins_at)
            .body(empty())
            .unwrap();
        let shown = browser.send(request).await;
        let cookie = shown.set_cookies()[0].split(';').next().unwrap().to_owned();
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("state", &shown.field("state"))
            .append_pair("user", "alice")
            .append_pair("password", PASSWORD)
            .finish();
        let request = Request::post("/.doorward/login")
            .header("host", ends_at)
            .header("cookie", cookie)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(form)))
            .unwrap();
        let answer = browser.send(request).await;
        assert_eq!(answer.status, 303);
        assert_eq!(answer.header("location"), expected, "{return_to} {ends_at}");
    }
}
