//! Logging in with what a directory knows: a real slapd, and servers that lie. What the app got, and whether there is a
//! session, is what counts; of what slapd was asked its own log tells.

use std::time::Duration;

use doorward::clock::Clock;
use doorward::identity::Subject;
use doorward::session::EndReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::{
    Answer, Browser, LDAP_PASSWORD, Manual, PASSWORD, Process, Proxy, ProxyBuilder, Reply,
    SERVICE_PASSWORD, START, Slapd, Upstream, eventually, manual, proxy, secret_file, soon,
    upstream,
};

const GUESS: &str = "guess-1234";
const FORM: &str = "/.doorward/login?provider=corp";
const GROUPS: &str = "group_base_dn = \"ou=groups,dc=example,dc=org\"";

/// A proxy with local users, a directory as `corp`, and an app for whoever is logged in.
struct Bench {
    proxy: Proxy,
    app: Upstream,
}

impl Bench {
    async fn start(section: &str) -> Self {
        Self::with(section, |proxy, _| proxy).await
    }

    async fn with(section: &str, change: impl FnOnce(ProxyBuilder, &str) -> ProxyBuilder) -> Self {
        let app = upstream(|_| Reply::ok("hello")).await;
        let proxy = proxy()
            .clock(&Clock::fixed(START))
            .provider(section)
            .app(&app.url());
        let proxy = change(proxy, &app.url()).start();
        Self { proxy, app }
    }

    async fn try_as(&self, user: &str, password: &str) -> (Browser, Answer) {
        let mut browser = self.proxy.browser();
        let answer = browser.log_in_at(FORM, user, password).await;
        (browser, answer)
    }

    async fn gets_in(&self, user: &str) -> Browser {
        let (mut browser, answer) = self.try_as(user, LDAP_PASSWORD).await;
        assert_eq!(answer.status, 303, "{user}: {}", answer.text());
        assert_eq!(browser.open("/").await.text(), "hello", "{user}");
        browser
    }

    async fn is_refused(&self, user: &str, password: &str, status: u16) -> Answer {
        let (mut browser, answer) = self.try_as(user, password).await;
        let shown = answer.text();
        assert_eq!(answer.status, status, "{user:?}: {shown}");
        assert_eq!(browser.token(), "", "{user:?}");
        assert!(password.is_empty() || !shown.contains(password), "{shown}");
        let seen = self.app.requests().len();
        assert_eq!(browser.fetch("/").await.status, 401, "{user:?}");
        assert_eq!(self.app.requests().len(), seen, "{user:?}");
        answer
    }

    /// The other provider has nothing to do with it.
    async fn local_users_get_in(&self) {
        let mut browser = self.proxy.browser();
        let place = "/.doorward/login?provider=local";
        let answer = browser.log_in_at(place, "bob", PASSWORD).await;
        assert_eq!(answer.status, 303, "{}", answer.text());
    }

    /// What the app was told last: user, name, address and groups.
    fn told(&self) -> [String; 4] {
        let request = self.app.requests().pop().unwrap();
        ["user", "name", "email", "groups"].map(|name| {
            let values = request.all(&format!("remote-{name}"));
            values.first().map_or("", |value| value).to_owned()
        })
    }
}

#[tokio::test]
async fn a_person_of_the_directory_logs_in_and_the_app_is_told_who_it_is() {
    let slapd = Slapd::start().await;
    let bench = Bench::start(&slapd.section(GROUPS)).await;
    let choice = bench.proxy.browser().follow("/").await.text();
    assert!(choice.contains("Corporate account"), "{choice}");
    assert!(choice.contains("User name and password"), "{choice}");

    let mut browser = bench.gets_in("alice").await;
    let alice = [
        "alice",
        "Alice %C3%9Cnder",
        "alice@example.org",
        "staff,wiki",
    ];
    assert_eq!(bench.told(), alice);
    let who = browser.fetch("/.doorward/session").await.json();
    assert_eq!(
        (&who["user"], &who["provider"]),
        (&"alice".into(), &"corp".into())
    );
    assert_eq!(who["auth_time"], START.as_secs());
    let event = bench.proxy.audited("login_succeeded").await;
    assert_eq!(
        (&event["user"], &event["provider"]),
        (&"alice".into(), &"corp".into())
    );

    // In a group of that name, but not of those that count.
    bench.gets_in("bob").await;
    assert_eq!((&*bench.told()[0], &*bench.told()[3]), ("bob", "staff"));
}

#[tokio::test]
async fn a_wrong_password_and_a_name_that_does_not_exist_are_answered_alike() {
    let slapd = Slapd::start().await;
    let bench = Bench::start(&slapd.section("")).await;
    let wrong = bench.is_refused("alice", GUESS, 401).await.text();
    let unknown = bench.is_refused("nobody", LDAP_PASSWORD, 401).await.text();
    let shown = |page: &str, user: &str| {
        let page = page.replace(user, "USER");
        let state = page.split("name=\"state\"").nth(1).unwrap();
        let rest = state.split_once('>').unwrap().1.to_owned();
        (
            page.split("name=\"state\"").next().unwrap().to_owned(),
            rest,
        )
    };
    assert_eq!(shown(&wrong, "alice"), shown(&unknown, "nobody"));
    bench
        .is_refused("alice", &LDAP_PASSWORD.to_uppercase(), 401)
        .await;
    let events = bench.proxy.audited_times("login_failed", 3).await;
    assert_eq!(
        (&events[1]["user"], &events[1]["provider"]),
        (&"nobody".into(), &"corp".into())
    );
    bench.gets_in("alice").await;
}

#[tokio::test]
async fn one_person_is_one_whatever_name_they_use() {
    let slapd = Slapd::start().await;
    let section = slapd.section(GROUPS);
    let bench = Bench::with(&section, |proxy, _| {
        proxy.with("session", "max_per_user = 1")
    })
    .await;
    let mut before = bench.gets_in("alice").await;
    for name in ["ALICE", " alice ", "alice@example.org"] {
        let next = bench.gets_in(name).await;
        assert_eq!(bench.told()[0], "alice", "{name}");
        assert_eq!(
            before.fetch("/").await.status,
            401,
            "{name} is somebody else"
        );
        before = next;
    }
}

#[tokio::test]
async fn what_is_typed_is_never_part_of_the_question() {
    let slapd = Slapd::start().await;
    let bench = Bench::start(&slapd.section("max_attempts = 100")).await;
    for typed in [
        "*",
        "alic*",
        "a*e",
        ")(uid=*",
        "alice)(objectClass=*",
        "alice)(|(uid=*",
        "*)(&",
        "\0",
        "alice\0",
        "\\2a",
        "alice\\00",
        "{user}",
        "uid=alice,ou=people,dc=example,dc=org",
        "alice\r\n",
        "\u{feff}",
    ] {
        bench.is_refused(typed, LDAP_PASSWORD, 401).await;
    }
    let log = slapd.log();
    assert!(
        log.contains(r"(uid=\2A)") || log.contains(r"(uid=\2a)"),
        "{log}"
    );
    assert!(!log.contains("(uid=*)"), "{log}");
}

#[tokio::test]
async fn who_shows_no_password_is_not_asked_about() {
    let slapd = Slapd::start().await;
    let bench = Bench::start(&slapd.section("")).await;
    let asked = slapd.log();
    bench.is_refused("alice", "", 401).await;
    bench.is_refused("", LDAP_PASSWORD, 401).await;
    bench.is_refused(" \t", LDAP_PASSWORD, 401).await;
    assert_eq!(slapd.log(), asked);
    // An open directory takes nobody's password, too.
    let direct = "user_dn = \"uid={user},ou=people,dc=example,dc=org\"";
    let section = slapd.section(direct).replace("user_filter", "#");
    let bench = Bench::start(&section).await;
    bench.is_refused("alice", "", 401).await;
    assert_eq!(slapd.log(), asked);
}

#[tokio::test]
async fn a_name_that_two_entries_have_is_nobodys() {
    let slapd = Slapd::start().await;
    let bench = Bench::start(&slapd.section("")).await;
    bench.is_refused("twin", LDAP_PASSWORD, 401).await;
    assert!(
        !slapd.log().contains("BIND dn=\"uid=twin"),
        "{}",
        slapd.log()
    );
    let base = slapd
        .section("")
        .replace("\"dc=example", "\"ou=people,dc=example");
    let bench = Bench::start(&base).await;
    bench.gets_in("twin").await;
}

#[tokio::test]
async fn groups_decide_what_somebody_may_use() {
    let slapd = Slapd::start().await;
    let bench = Bench::with(&slapd.section(GROUPS), |proxy, app| {
        let of = |group: &str| format!("access = {{ groups = [\"{group}\"] }}");
        proxy
            .route("/wiki", app, &of("wiki"))
            .route("/admin", app, &of("admins"))
    })
    .await;
    let mut alice = bench.gets_in("alice").await;
    let mut bob = bench.gets_in("bob").await;
    assert_eq!(alice.open("/wiki").await.status, 200);
    assert_eq!(bob.open("/wiki").await.status, 403);
    for browser in [&mut alice, &mut bob] {
        assert_eq!(browser.open("/admin").await.status, 403);
    }
    // At the next login the directory says something else.
    slapd.ldap("ldapmodify", "dn: cn=wiki,ou=groups,dc=example,dc=org\nchangetype: modify\nreplace: member\nmember: uid=bob,ou=people,dc=example,dc=org\n");
    let mut alice = bench.gets_in("alice").await;
    assert_eq!(alice.open("/wiki").await.status, 403);
    let mut bob = bench.gets_in("bob").await;
    assert_eq!(bob.open("/wiki").await.status, 200);
}

#[tokio::test]
async fn groups_are_looked_for_where_entries_name_none() {
    let slapd = Slapd::start().await;
    for filter in [
        "(&(objectClass=groupOfNames)(member={dn}))",
        "(member=uid={user},ou=people,dc=example,dc=org)",
    ] {
        let keys =
            format!("{GROUPS}\ngroup_filter = \"{filter}\"\nattributes = {{ groups = \"\" }}");
        let bench = Bench::start(&slapd.section(&keys)).await;
        bench.gets_in("alice").await;
        assert_eq!(bench.told()[3], "staff,wiki", "{filter}");
        bench.gets_in("bob").await;
        assert_eq!(bench.told()[3], "staff", "{filter}");
        bench.gets_in("carol").await;
        assert_eq!(bench.told()[3], "", "{filter}");
    }
}

#[tokio::test]
async fn a_name_can_be_a_place_in_the_tree() {
    let slapd = Slapd::start().await;
    let keys = format!(
        "{GROUPS}\nuser_dn = \"uid={{user}},ou=people,dc=example,dc=org\"\nattributes = {{ subject = \"dn\" }}"
    );
    let with_service = slapd.section(&keys).replace("user_filter", "#");
    let alone = with_service
        .replace("bind_dn", "#")
        .replace("bind_password", "#");
    for section in [with_service, alone] {
        let bench = Bench::with(&section, |proxy, _| {
            proxy.with("session", "max_per_user = 1")
        })
        .await;
        let mut before = bench.gets_in("alice").await;
        assert_eq!(bench.told()[3], "staff,wiki");
        bench.gets_in("ALICE").await;
        assert_eq!(before.fetch("/").await.status, 401, "one person");
        for typed in ["alice,ou=people", "alice+cn=Alice", "*", "nobody", ""] {
            bench.is_refused(typed, LDAP_PASSWORD, 401).await;
        }
    }
}

#[tokio::test]
async fn nothing_is_said_to_a_server_that_does_not_show_who_it_is() {
    let (slapd, other) = (Slapd::start().await, Slapd::start().await);
    let strange = slapd
        .section("")
        .replace(&slapd.authority(), &other.authority());
    // The certificate is for `localhost`.
    let misnamed = slapd.section("").replace("//localhost", "//127.0.0.1");
    let start_tls = slapd.section_at(&format!("\"ldap://localhost:{}\"", slapd.port), "");
    let strange_later = start_tls.replace(&slapd.authority(), &other.authority());
    let misnamed_later = start_tls.replace("//localhost", "//127.0.0.1");
    let before = slapd.log().matches(" BIND ").count();
    for section in [&strange, &misnamed, &strange_later, &misnamed_later] {
        let bench = Bench::start(section).await;
        bench.is_refused("alice", LDAP_PASSWORD, 503).await;
        bench.local_users_get_in().await;
    }
    assert_eq!(slapd.log().matches(" BIND ").count(), before);
    Bench::start(&start_tls).await.gets_in("alice").await;
    assert!(slapd.log().contains("STARTTLS"), "{}", slapd.log());
}

#[tokio::test]
async fn a_server_that_refuses_starttls_hears_no_password() {
    let slapd = Slapd::without_tls().await;
    let url = format!("\"ldap://localhost:{}\"", slapd.port);
    let before = slapd.log().matches(" BIND ").count();
    let bench = Bench::start(&slapd.section_at(&url, "")).await;
    bench.is_refused("alice", LDAP_PASSWORD, 503).await;
    bench.local_users_get_in().await;
    assert_eq!(
        slapd.log().matches(" BIND ").count(),
        before,
        "{}",
        slapd.log()
    );
    // Unless the configuration says that there is nobody between.
    let bench = Bench::start(&slapd.section_at(&url, "start_tls = false")).await;
    bench.gets_in("alice").await;
    let bench = Bench::start(&slapd.section_at(&format!("\"{}\"", slapd.socket()), "")).await;
    bench.gets_in("alice").await;
}

#[tokio::test]
async fn a_directory_that_is_away_takes_nobody_with_it_and_is_welcome_back() {
    let mut slapd = Slapd::start().await;
    let keys = "answer_timeout = \"2s\"\nconnect_timeout = \"2s\"";
    let bench = Bench::start(&slapd.section(keys)).await;
    let mut alice = bench.gets_in("alice").await;
    slapd.stop();
    let answer = bench.is_refused("alice", LDAP_PASSWORD, 503).await;
    assert_eq!(answer.header("retry-after"), "5");
    assert!(answer.text().contains("does not work at the moment"));
    bench.local_users_get_in().await;
    assert_eq!(alice.open("/").await.text(), "hello");

    slapd.again().await;
    bench.gets_in("alice").await;
    let frozen = slapd.freeze();
    bench.is_refused("alice", LDAP_PASSWORD, 503).await;
    bench.local_users_get_in().await;
    drop(frozen);
    bench.gets_in("alice").await;
    assert_eq!(
        bench
            .proxy
            .audit()
            .iter()
            .filter(|line| line["event"] == "login_failed")
            .count(),
        0
    );
}

#[tokio::test]
async fn the_next_server_is_asked_where_one_does_not_answer() {
    let (mut gone, slapd) = (Slapd::start().await, Slapd::start().await);
    let urls = format!(
        "[\"ldaps://localhost:{}\", \"ldaps://localhost:{}\"]",
        gone.tls_port, slapd.tls_port
    );
    std::fs::copy(gone.authority(), slapd.folder.path().join("both.pem")).unwrap();
    let both = std::fs::read_to_string(gone.authority()).unwrap()
        + &std::fs::read_to_string(slapd.authority()).unwrap();
    std::fs::write(slapd.folder.path().join("both.pem"), both).unwrap();
    let section = slapd.section_at(&urls, "connect_timeout = \"2s\"\nanswer_timeout = \"2s\"");
    let bench = Bench::start(&section.replace("ca.pem", "both.pem")).await;
    bench.gets_in("alice").await;
    let idle = slapd.log();
    assert!(
        !idle.contains("uid=alice,ou=people,dc=example,dc=org\" method"),
        "{idle}"
    );
    let frozen = gone.freeze();
    bench.gets_in("alice").await;
    drop(frozen);
    gone.stop();
    bench.gets_in("alice").await;
    // A wrong password is a wrong password: the other server is not asked as well.
    gone.again().await;
    bench.proxy.clock.advance(Duration::from_secs(31));
    let asked = slapd.log();
    bench.is_refused("alice", GUESS, 401).await;
    assert_eq!(slapd.log(), asked);
}

/// One that takes what comes and answers as it likes.
async fn liar(answers: Vec<Vec<u8>>) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answers = answers.clone();
            tokio::spawn(async move {
                let mut asked = vec![0; 4096];
                for answer in answers {
                    if !matches!(stream.read(&mut asked).await, Ok(1..)) {
                        return;
                    }
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
                // It never ends the connection by itself.
                while matches!(stream.read(&mut asked).await, Ok(1..)) {}
            });
        }
    });
    addr
}

/// A message of a number, an operation and its content, all shorter than 64 KiB.
fn message(id: u8, op: u8, content: &[u8]) -> Vec<u8> {
    let long = |tag: u8, content: &[u8]| {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x84], &length[..], content].concat()
    };
    long(0x30, &[&[2, 1, id], &long(op, content)[..]].concat())
}

const OK: &[u8] = b"\x0a\x01\x00\x04\x00\x04\x00";

/// What a server answers to one question after the other.
fn lies() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let bound = message(1, 0x61, OK);
    let entry = |dn: &[u8]| {
        let mut content = vec![4, u8::try_from(dn.len()).unwrap()];
        content.extend_from_slice(dn);
        content.extend_from_slice(b"\x30\x00");
        message(2, 0x64, &content)
    };
    let many = entry(b"cn=a").repeat(20_000);
    let references = message(2, 0x73, &vec![0; 60_000]).repeat(40);
    vec![
        ("silence", vec![]),
        ("nothing at all", vec![vec![]]),
        ("garbage", vec![b"HTTP/1.1 200 OK\r\n\r\n".to_vec()]),
        ("zeros", vec![vec![0; 100_000]]),
        (
            "four gigabytes, it says",
            vec![b"\x30\x84\xff\xff\xff\xff".to_vec()],
        ),
        ("no length", vec![b"\x30\x80\x02\x01\x01\x61\x80".to_vec()]),
        (
            "depth",
            vec![
                [
                    b"\x30\x83\x06\x1a\x80".to_vec(),
                    b"\x30\x80".repeat(200_000),
                ]
                .concat(),
            ],
        ),
        ("half a message", vec![bound[..20].to_vec()]),
        ("an answer to something else", vec![message(7, 0x61, OK)]),
        ("another operation", vec![message(1, 0x65, OK)]),
        (
            "goodbye",
            vec![message(0, 0x78, b"\x0a\x01\x34\x04\x00\x04\x00")],
        ),
        (
            "a text that is none",
            vec![message(1, 0x61, b"\x0a\x01\x31\x04\x00\x04\x02\xff\xfe")],
        ),
        ("no result", vec![message(1, 0x61, b"")]),
        (
            "more entries than were asked for",
            vec![bound.clone(), many],
        ),
        ("references without end", vec![bound.clone(), references]),
        (
            "an entry of nobody",
            vec![bound.clone(), [entry(b""), message(2, 0x65, OK)].concat()],
        ),
        (
            "a name that is no text",
            vec![bound.clone(), entry(b"\xff\xff")],
        ),
        (
            "a referral",
            vec![message(
                1,
                0x61,
                b"\x0a\x01\x0a\x04\x00\x04\x00\xa3\x0b\x04\x09ldap://x/",
            )],
        ),
        (
            "another referral",
            vec![
                bound.clone(),
                message(2, 0x65, b"\x0a\x01\x0a\x04\x00\x04\x00"),
            ],
        ),
    ]
}

#[tokio::test]
async fn a_server_that_lies_lets_nobody_in_and_costs_nothing_else() {
    let slapd = Slapd::start().await;
    for (what, answers) in lies() {
        let addr = liar(answers).await;
        // Only of what never comes does time tell; all else is seen for what it is at once.
        let is_late = ["silence", "nothing at all", "half a message"].contains(&what);
        let timeout = if is_late { "300ms" } else { "1m" };
        let keys = format!("start_tls = false\nanswer_timeout = \"{timeout}\"");
        let section = slapd.section_at(&format!("\"ldap://{addr}\""), &keys);
        let bench = Bench::start(&section).await;
        let (browser, answer) = soon(what, bench.try_as("alice", LDAP_PASSWORD)).await;
        let is_refused =
            answer.status == 503 || what == "an entry of nobody" && answer.status == 401;
        assert!(is_refused, "{what}: {}", answer.status);
        assert_eq!(browser.token(), "", "{what}");
        bench.local_users_get_in().await;
    }
}

#[tokio::test]
async fn what_was_said_before_starttls_does_not_count_after_it() {
    let slapd = Slapd::start().await;
    // A yes to StartTLS and, in the same breath, to what will be asked later.
    let yes = [
        message(1, 0x78, OK),
        message(1, 0x61, OK),
        message(2, 0x61, OK),
    ]
    .concat();
    let addr = liar(vec![yes]).await;
    let url = format!("\"ldap://localhost:{}\"", addr.port());
    let bench = Bench::start(&slapd.section_at(&url, "answer_timeout = \"300ms\"")).await;
    bench.is_refused("alice", LDAP_PASSWORD, 503).await;
}

#[tokio::test]
async fn a_service_account_that_is_not_let_in_lets_nobody_in() {
    let slapd = Slapd::start().await;
    let section = slapd.section("");
    let bench = Bench::start(&section).await;
    secret_file(
        &slapd.folder.path().join("service.password"),
        "not this one",
    );
    let other = Bench::start(&section).await;
    other.is_refused("alice", LDAP_PASSWORD, 503).await;
    other.is_refused("alice", GUESS, 503).await;
    other.local_users_get_in().await;
    bench.gets_in("alice").await;
}

/// Such a login comes from elsewhere each time.
async fn from(bench: &Bench, number: u8, user: &str, password: &str) -> Answer {
    let mut browser = bench.proxy.browser();
    let field = ("x-forwarded-for".to_owned(), format!("192.0.2.{number}"));
    browser.fields.push(field);
    browser.log_in_at(FORM, user, password).await
}

#[tokio::test]
async fn guesses_are_counted_for_the_person_whatever_name_is_guessed_with() {
    let slapd = Slapd::start().await;
    let section = slapd.section("max_attempts = 4\nattempt_window = \"15m\"");
    let bench = Bench::with(&section, |proxy, _| {
        proxy.with("server", "trusted_proxies = [\"127.0.0.1\"]")
    })
    .await;
    let mut owner = bench.gets_in("alice").await;
    owner.log_out().await;
    for (number, user) in ["alice", "ALICE ", "alice@example.org", "Alice@Example.org"]
        .iter()
        .enumerate()
    {
        let number = u8::try_from(number).unwrap();
        assert_eq!(
            from(&bench, number, user, GUESS).await.status,
            401,
            "{user}"
        );
    }
    for user in ["alice", " alice@example.org", "\u{ff41}lice"] {
        let answer = from(&bench, 10, user, LDAP_PASSWORD).await;
        assert_eq!(
            answer.status,
            if user.is_ascii() {
                429
            } else {
                answer.status.as_u16()
            },
            "{user}"
        );
        assert_ne!(answer.status, 303, "{user}");
    }
    assert_eq!(from(&bench, 11, "bob", LDAP_PASSWORD).await.status, 303);
    // The owner's own browser is known.
    let answer = owner.log_in_at(FORM, "alice", LDAP_PASSWORD).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    bench.proxy.clock.advance(Duration::from_mins(15));
    assert_eq!(from(&bench, 12, "alice", LDAP_PASSWORD).await.status, 303);
}

#[tokio::test]
async fn one_address_has_so_many_guesses_and_a_name_of_nobody_counts() {
    let slapd = Slapd::start().await;
    let bench = Bench::start(&slapd.section("max_attempts = 3")).await;
    bench.is_refused("nobody", GUESS, 401).await;
    bench.is_refused("alice", "", 401).await;
    bench.is_refused("bob", GUESS, 401).await;
    bench.is_refused("alice", LDAP_PASSWORD, 429).await;
    bench.local_users_get_in().await;
}

#[tokio::test]
async fn right_passwords_and_servers_that_are_away_use_up_no_attempt() {
    let mut slapd = Slapd::start().await;
    let bench = Bench::start(&slapd.section("max_attempts = 1")).await;
    for _ in 0..3 {
        bench.gets_in("alice").await;
    }
    slapd.stop();
    for _ in 0..3 {
        bench.is_refused("alice", LDAP_PASSWORD, 503).await;
    }
    slapd.again().await;
    bench.gets_in("alice").await;
}

#[tokio::test]
async fn more_logins_than_may_wait_are_told_to_come_again() {
    let slapd = Slapd::start().await;
    let silent = manual();
    let keys = "start_tls = false\nconnections = 1\nanswer_timeout = \"30s\"\nmax_attempts = 1000";
    let section = slapd.section_at(&format!("\"ldap://{}\"", silent.addr), keys);
    let bench = Bench::start(&section).await;
    let mut logins = JoinSet::new();
    // One is asked about, and 64 wait.
    for _ in 0..70 {
        let mut browser = bench.proxy.browser();
        logins.spawn(async move { browser.log_in_at(FORM, "alice", LDAP_PASSWORD).await });
    }
    for _ in 0..5 {
        let answer = soon("an answer", logins.join_next())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(answer.status, 503);
        assert!(
            answer.text().contains("Many people are logging in"),
            "{}",
            answer.text()
        );
    }
    bench.local_users_get_in().await;
    let _held = silent.accept().await;
    assert_eq!(logins.len(), 65);
    logins.abort_all();
}

/// Hands on what goes between, once somebody wants it.
async fn bridged(manual: &Manual, port: u16) -> tokio::task::JoinHandle<()> {
    let mut near = manual.accept().await.into_stream();
    tokio::spawn(async move {
        let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        tokio::io::copy_bidirectional(&mut near, &mut far)
            .await
            .ok();
    })
}

#[tokio::test]
async fn a_login_under_way_while_all_sessions_of_the_person_are_ended_does_not_count() {
    let slapd = Slapd::start().await;
    let between = manual();
    let url = format!("\"ldap://{}\"", between.addr);
    let bench = Bench::start(
        &slapd.section_at(&url, "start_tls = false\nattributes = { subject = \"dn\" }"),
    )
    .await;
    let log_in = |bench: &Bench| {
        let mut browser = bench.proxy.browser();
        tokio::spawn(async move {
            let answer = browser.log_in_at(FORM, "alice", LDAP_PASSWORD).await;
            (browser, answer)
        })
    };
    let first = log_in(&bench);
    bridged(&between, slapd.port).await;
    let (mut browser, answer) = first.await.unwrap();
    assert_eq!(answer.status, 303);

    let second = log_in(&bench);
    let mut held = between.accept().await.into_stream();
    bench.proxy.clock.advance(Duration::from_secs(1));
    let alice = Subject {
        provider: "corp".to_owned(),
        id: "uid=alice,ou=people,dc=example,dc=org".to_owned(),
    };
    let sessions = bench.proxy.sessions();
    let ended = sessions.end_all_of(&alice, EndReason::Revoked).await;
    assert_eq!(ended.unwrap(), 1);
    assert_eq!(browser.fetch("/").await.status, 401);
    tokio::spawn(async move {
        let mut far = TcpStream::connect(("127.0.0.1", slapd.port)).await.unwrap();
        tokio::io::copy_bidirectional(&mut held, &mut far)
            .await
            .ok();
        drop(slapd);
    });
    let (browser, answer) = second.await.unwrap();
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert_eq!(browser.token(), "");
}

#[tokio::test]
async fn the_log_tells_what_is_wrong_and_holds_no_password() {
    let slapd = Slapd::start().await;
    let gone = manual();
    let dead = gone.addr;
    drop(gone);
    let urls = format!(
        "[\"ldaps://localhost:{}\", \"ldaps://localhost:{}\"]",
        dead.port(),
        slapd.tls_port
    );
    let app = upstream(|_| Reply::ok("hello")).await;
    let folder = proxy()
        .provider(&slapd.section_at(&urls, ""))
        .app(&app.url())
        .prepare();
    let mut process = Process::start(folder.path(), &["run", "--config", "doorward.toml"]);
    let mut browser = process.browser().await;
    for (user, password, status) in [
        ("alice", LDAP_PASSWORD, 303),
        ("locked", LDAP_PASSWORD, 401),
        ("reset", LDAP_PASSWORD, 401),
        ("twin", LDAP_PASSWORD, 401),
        ("alice", "a wrong one", 401),
    ] {
        browser.jar.clear();
        let answer = browser.log_in_at(FORM, user, password).await;
        assert_eq!(answer.status, status, "{user}: {}", answer.text());
    }
    eventually("the last line", async || {
        process.words().contains("several entries fit")
    })
    .await;
    let words = process.words();
    for line in [
        "it cannot be reached",
        "it is locked",
        "its password has to be changed first",
        "uid=locked,ou=people,dc=example,dc=org",
    ] {
        assert!(words.contains(line), "no {line} in {words}");
    }
    let audit = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
    for secret in [LDAP_PASSWORD, SERVICE_PASSWORD, "a wrong one"] {
        assert!(
            !words.contains(secret) && !audit.contains(secret),
            "{words}"
        );
    }
}
