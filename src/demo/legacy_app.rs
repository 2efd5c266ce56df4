//! The sample app behind the demo: a small shop, plain HTTP/1.1, that never learned to log anyone in. It believes the
//! header `Remote-User`, keeps carts by headers too, and refuses to know sessions, cookies and passwords.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use minijinja::{Environment, UndefinedBehavior, Value, context};
use percent_encoding::percent_decode_str;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::clock::Clock;

const MAX_CONNECTIONS: usize = 256;
const MAX_BODY: usize = 16 * 1024;
const MAX_ITEMS: usize = 20;
/// In characters.
const MAX_ITEM: usize = 80;
/// What goes into a header, in bytes.
const MAX_CART: usize = 3 * 1024;
const HEADER_TIMEOUT: Duration = Duration::from_mins(1);
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What the proxy keeps for this app, and how it is told.
const DATA: &str = "doorward-session-data";
const SET: &str = "doorward-session-set";
const UNSET: &str = "doorward-session-unset";

const STYLE: &str = include_str!("templates/style.css");
const CLOCK_SCRIPT: &str = include_str!("templates/clock.js");

const TEMPLATES: [(&str, &str); 6] = [
    ("cart.html", include_str!("templates/cart.html")),
    ("clock.html", include_str!("templates/clock.html")),
    ("home.html", include_str!("templates/home.html")),
    ("layout.html", include_str!("templates/layout.html")),
    ("note.html", include_str!("templates/note.html")),
    ("public.html", include_str!("templates/public.html")),
];

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Serves the shop for as long as it is polled; dropping it closes every connection.
pub(super) async fn serve(listener: TcpListener) {
    let shop = Arc::new(Shop::new());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(shop.clone(), stream));
                }
                Err(error) => {
                    tracing::warn!(%error, "the sample app cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection(shop: Arc<Shop>, stream: TcpStream) {
    let service = service_fn(move |request| {
        let shop = shop.clone();
        async move { Ok::<_, Infallible>(shop.answer(request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the sample app failed");
    }
}

/// The app itself. It remembers nobody: the proxy brings each cart along, and takes it back.
struct Shop {
    templates: Environment<'static>,
}

/// Why something was not put into a cart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Unsold {
    CartFull,
    NoItem,
}

impl Shop {
    fn new() -> Self {
        let mut templates = Environment::empty();
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        templates.set_auto_escape_callback(|_| minijinja::AutoEscape::Html);
        templates.add_filter("length", minijinja::filters::length);
        templates.add_global("style", Value::from_safe_string(STYLE.to_owned()));
        templates.add_global("max_item", MAX_ITEM);
        for (name, source) in TEMPLATES {
            #[expect(clippy::expect_used, reason = "the templates are constants")]
            templates
                .add_template(name, source)
                .expect("a template that parses");
        }
        Self { templates }
    }

    async fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let headers = request.headers();
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let posts = request.method() == Method::POST;
        match request.uri().path() {
            "/" if reads => self.home(headers),
            "/cart" if posts => self.put_in_cart(request).await,
            "/cart/clear" if posts => clear_cart(headers),
            "/clock" if reads && wants_page(headers) => self.clock(headers),
            "/clock" if reads => ticks(),
            "/clock.js" if reads => whole(
                StatusCode::OK,
                "text/javascript; charset=utf-8",
                CLOCK_SCRIPT,
            ),
            "/public" if reads => {
                let values = context! { user => user(headers), items => cart(headers) };
                self.page(StatusCode::OK, "public.html", &values)
            }
            "/staff" if reads => self.note(headers, StatusCode::OK, STAFF),
            "/" | "/clock" | "/clock.js" | "/public" | "/staff" => {
                self.not_allowed(headers, "GET, HEAD")
            }
            "/cart" | "/cart/clear" => self.not_allowed(headers, "POST"),
            _ => self.note(headers, StatusCode::NOT_FOUND, NOT_FOUND),
        }
    }

    fn home(&self, headers: &HeaderMap) -> Answer {
        let user = user(headers);
        let name = text(headers, "remote-name").or_else(|| user.clone());
        let rows: Vec<Value> = headers.iter().map(row).collect();
        let values = context! {
            user, name,
            items => cart(headers),
            headers => rows,
            has_cookie => headers.contains_key(header::COOKIE),
        };
        self.page(StatusCode::OK, "home.html", &values)
    }

    async fn put_in_cart<B>(&self, request: Request<B>) -> Answer
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect());
        let body = match collected.await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return closing(self.note(&head.headers, StatusCode::PAYLOAD_TOO_LARGE, TOO_LARGE));
            }
            Ok(Err(_)) => {
                return closing(self.note(&head.headers, StatusCode::BAD_REQUEST, NO_ITEM));
            }
            Err(_) => {
                return closing(self.note(&head.headers, StatusCode::REQUEST_TIMEOUT, TOO_SLOW));
            }
        };
        match sell(cart(&head.headers), &body) {
            Ok(cart) => {
                let mut answer = see_cart(&head.headers);
                answer.headers_mut().insert(SET, cart);
                answer
            }
            Err(Unsold::CartFull) => self.note(&head.headers, StatusCode::CONFLICT, CART_FULL),
            Err(Unsold::NoItem) => self.note(&head.headers, StatusCode::BAD_REQUEST, NO_ITEM),
        }
    }

    fn clock(&self, headers: &HeaderMap) -> Answer {
        let values = context! { user => user(headers) };
        self.page(StatusCode::OK, "clock.html", &values)
    }

    fn not_allowed(&self, headers: &HeaderMap, allowed: &'static str) -> Answer {
        let mut answer = self.note(headers, StatusCode::METHOD_NOT_ALLOWED, NOT_ALLOWED);
        let allowed = HeaderValue::from_static(allowed);
        answer.headers_mut().insert(header::ALLOW, allowed);
        answer
    }

    fn note(&self, headers: &HeaderMap, status: StatusCode, (title, text): Note) -> Answer {
        let values = context! { user => user(headers), title, text };
        self.page(status, "note.html", &values)
    }

    fn page(&self, status: StatusCode, template: &str, values: &Value) -> Answer {
        let rendered = self
            .templates
            .get_template(template)
            .and_then(|template| template.render(values));
        match rendered {
            Ok(body) => whole(status, "text/html; charset=utf-8", body),
            Err(error) => {
                tracing::error!(template, %error, "a page of the sample app cannot be shown");
                whole(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "text/plain; charset=utf-8",
                    "The shop is broken.\n",
                )
            }
        }
    }
}

/// Title and text.
type Note = (&'static str, &'static str);

const CART_FULL: Note = ("Your cart is full", "Empty it before you put in more.");
const NOT_ALLOWED: Note = ("Not like this", "This page does not take such a request.");
const NOT_FOUND: Note = ("Nothing here", "The shop has no such page.");
const NO_ITEM: Note = ("Put in what?", "Name one thing in at most 80 characters.");
const STAFF: Note = ("Staff only", "You are here, so you are staff.");
const TOO_LARGE: Note = ("That is too much", "The shop cannot carry that.");
const TOO_SLOW: Note = (
    "That took too long",
    "The shop waited for the rest of your request.",
);

/// The cart with one thing more, as the proxy is to keep it.
fn sell(mut items: Vec<String>, form: &[u8]) -> Result<HeaderValue, Unsold> {
    let mut fields = url::form_urlencoded::parse(form);
    let (_, item) = fields
        .find(|(name, _)| name == "item")
        .ok_or(Unsold::NoItem)?;
    let item = item.trim();
    if item.is_empty() || item.chars().count() > MAX_ITEM {
        return Err(Unsold::NoItem);
    }
    items.push(item.to_owned());
    let mut encoded = url::form_urlencoded::Serializer::new(String::new());
    let encoded = encoded
        .extend_pairs(items.iter().map(|item| ("item", item)))
        .finish();
    let value = HeaderValue::try_from(format!("cart=\"{encoded}\""));
    match value {
        Ok(value) if items.len() <= MAX_ITEMS && value.len() <= MAX_CART => Ok(value),
        _ => Err(Unsold::CartFull),
    }
}

fn clear_cart(headers: &HeaderMap) -> Answer {
    let mut answer = see_cart(headers);
    let cart = HeaderValue::from_static("cart");
    answer.headers_mut().insert(UNSET, cart);
    answer
}

/// What the proxy has kept of a visitor: `cart="item=Bread&item=Apples"`, which needs no escapes.
fn cart(headers: &HeaderMap) -> Vec<String> {
    let data = headers.get(DATA).and_then(|data| data.to_str().ok());
    let cart = data.and_then(|data| data.strip_prefix("cart=\"")?.strip_suffix('"'));
    let items = url::form_urlencoded::parse(cart.unwrap_or_default().as_bytes());
    items.map(|(_, item)| item.into_owned()).collect()
}

/// Who asks, as far as this app believes: what the proxy wrote.
fn user(headers: &HeaderMap) -> Option<String> {
    text(headers, "remote-user")
}

/// A header as text. What was not plain ASCII arrives percent-encoded.
fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    let text = percent_decode_str(value).decode_utf8_lossy();
    (!text.is_empty()).then(|| text.into_owned())
}

fn row((name, value): (&header::HeaderName, &HeaderValue)) -> Value {
    context! {
        name => name.as_str(),
        value => String::from_utf8_lossy(value.as_bytes()),
        is_identity => name.as_str().starts_with("remote-"),
    }
}

/// The page and the stream behind it share an address; a browser that opens a page says so.
fn wants_page(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// The time of day, once per second and for ever.
fn ticks() -> Answer {
    let start = (
        Clock::system(),
        tokio::time::interval(Duration::from_secs(1)),
    );
    let ticks = stream::unfold(start, |(clock, mut interval)| async move {
        interval.tick().await;
        clock.tick();
        let event = Bytes::from(format!("data: {}\n\n", clock.now()));
        Some((Ok::<_, Infallible>(Frame::data(event)), (clock, interval)))
    });
    finish(
        StatusCode::OK,
        "text/event-stream",
        StreamBody::new(ticks).boxed_unsync(),
    )
}

fn whole(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    finish(status, content_type, Full::new(body.into()).boxed_unsync())
}

/// The page that shows the cart to whoever asks.
fn see_cart(headers: &HeaderMap) -> Answer {
    let place = if user(headers).is_some() {
        "/"
    } else {
        "/public"
    };
    let mut answer = whole(StatusCode::SEE_OTHER, "text/plain; charset=utf-8", "");
    answer
        .headers_mut()
        .insert(header::LOCATION, HeaderValue::from_static(place));
    answer
}

/// The rest of the request's body is not read, so the connection is of no further use.
fn closing(mut answer: Answer) -> Answer {
    answer
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn finish(
    status: StatusCode,
    content_type: &'static str,
    body: UnsyncBoxBody<Bytes, Infallible>,
) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn get(path: &str) -> http::request::Builder {
        Request::get(path).header("accept", "text/html")
    }

    fn post(path: &str) -> http::request::Builder {
        Request::post(path).header("remote-user", "alice")
    }

    fn empty() -> Full<Bytes> {
        Full::default()
    }

    fn form(body: &str) -> Full<Bytes> {
        Full::new(Bytes::copy_from_slice(body.as_bytes()))
    }

    async fn html(answer: Answer) -> String {
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    async fn home(shop: &Shop, user: &str) -> String {
        let request = get("/").header("remote-user", user).body(empty()).unwrap();
        html(shop.answer(request).await).await
    }

    #[tokio::test]
    async fn the_shop_greets_whoever_the_header_names() {
        let shop = Shop::new();
        let request = get("/")
            .header("remote-user", "alice")
            .header("remote-name", "Alice Zo%C3%AB");
        let page = html(shop.answer(request.body(empty()).unwrap()).await).await;
        assert!(page.contains("<h1>Hello, Alice Zoë</h1>"), "{page}");
        assert!(page.contains("<strong>alice</strong>"));
        assert!(home(&shop, "bob").await.contains("<h1>Hello, bob</h1>"));
    }

    #[tokio::test]
    async fn without_the_header_one_is_nobody() {
        let shop = Shop::new();
        for request in [
            get("/"),
            get("/").header("remote-user", ""),
            get("/").header("x-user", "alice"),
        ] {
            let page = html(shop.answer(request.body(empty()).unwrap()).await).await;
            assert!(page.contains("you are nobody"), "{page}");
        }
        let request = Request::post("/cart").body(form("item=Bread")).unwrap();
        let answer = shop.answer(request).await;
        assert_eq!(
            answer.headers()["location"],
            "/public",
            "who has a cart all the same"
        );
    }

    #[tokio::test]
    async fn every_header_is_shown_as_text_in_its_order() {
        let shop = Shop::new();
        let request = get("/")
            .header("x-second", "<script>alert(1)</script>")
            .header("remote-user", "\"><img src=x>")
            .header("x-bytes", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        let page = html(shop.answer(request.body(empty()).unwrap()).await).await;
        assert!(
            page.contains("&lt;script&gt;alert(1)&lt;&#x2f;script&gt;"),
            "{page}"
        );
        assert!(page.contains("caf\u{fffd}"));
        assert!(!page.contains("<script") && !page.contains("<img"));
        let places = ["accept", "x-second", "remote-user", "x-bytes"].map(|name| {
            page.find(&format!("<th scope=\"row\">{name}</th>"))
                .unwrap()
        });
        assert!(places.is_sorted(), "{places:?}");
    }

    #[tokio::test]
    async fn a_cart_is_what_the_proxy_brings_and_takes_back() {
        let shop = Shop::new();
        let mut kept = None;
        for item in ["item=Bread", "item=%3Cb%3E+%26+%22%C3%BC"] {
            let mut request = post("/cart");
            if let Some(kept) = kept.take() {
                request = request.header(DATA, kept);
            }
            let answer = shop.answer(request.body(form(item)).unwrap()).await;
            assert_eq!(answer.status(), StatusCode::SEE_OTHER);
            assert_eq!(answer.headers()["location"], "/");
            kept = Some(answer.headers()[SET].clone());
        }
        let kept = kept.unwrap();
        assert_eq!(kept, "cart=\"item=Bread&item=%3Cb%3E+%26+%22%C3%BC\"");
        for path in ["/", "/public"] {
            let request = get(path).header(DATA, kept.clone());
            let page = html(shop.answer(request.body(empty()).unwrap()).await).await;
            let list = "<li>Bread</li>\n<li>&lt;b&gt; &amp; &quot;ü</li>";
            assert!(page.contains(list), "{page}");
        }
        assert!(home(&shop, "bob").await.contains("Nothing in it yet."));

        let answer = shop
            .answer(post("/cart/clear").body(empty()).unwrap())
            .await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        assert_eq!(answer.headers()[UNSET], "cart");
    }

    #[tokio::test]
    async fn carts_are_bounded() {
        let shop = Shop::new();
        let long = format!("item={}", "x".repeat(MAX_ITEM + 1));
        for body in ["", "item=", "item=++", "thing=Bread", &long] {
            let answer = shop.answer(post("/cart").body(form(body)).unwrap()).await;
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{body}");
        }
        let items = |count, item: &str| vec![item.to_owned(); count];
        assert!(sell(items(MAX_ITEMS - 1, "Bread"), b"item=Bread").is_ok());
        for full in [items(MAX_ITEMS, "Bread"), items(15, &"ü".repeat(MAX_ITEM))] {
            assert_eq!(sell(full, b"item=Bread"), Err(Unsold::CartFull));
        }
    }

    #[tokio::test]
    async fn a_body_over_the_bound_is_refused_and_one_at_it_is_read() {
        let shop = Shop::new();
        let filler = |size: usize| {
            form(&format!(
                "item=Bread&filler={}",
                "x".repeat(size - "item=Bread&filler=".len())
            ))
        };
        let answer = shop
            .answer(post("/cart").body(filler(MAX_BODY)).unwrap())
            .await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let answer = shop
            .answer(post("/cart").body(filler(MAX_BODY + 1)).unwrap())
            .await;
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(answer.headers()["connection"], "close");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_not_waited_for() {
        let shop = Shop::new();
        let silent = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let answer = shop.answer(post("/cart").body(silent).unwrap()).await;
        assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test]
    async fn a_method_that_a_page_does_not_know_is_refused() {
        let shop = Shop::new();
        for (method, path, status, allowed) in [
            ("POST", "/", 405, Some("GET, HEAD")),
            ("DELETE", "/staff", 405, Some("GET, HEAD")),
            ("GET", "/cart", 405, Some("POST")),
            ("PUT", "/cart/clear", 405, Some("POST")),
            ("HEAD", "/public", 200, None),
            ("GET", "/nowhere", 404, None),
            ("POST", "/nowhere", 404, None),
        ] {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .body(empty())
                .unwrap();
            let answer = shop.answer(request).await;
            assert_eq!(answer.status().as_u16(), status, "{method} {path}");
            let told = answer
                .headers()
                .get("allow")
                .map(|value| value.to_str().unwrap());
            assert_eq!(told, allowed, "{method} {path}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_ticks_once_per_second() {
        let shop = Shop::new();
        let request = Request::get("/clock").header("accept", "text/event-stream");
        let answer = shop.answer(request.body(empty()).unwrap()).await;
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut body = answer.into_body();
        let before = tokio::time::Instant::now();
        for _ in 0..3 {
            let event = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(
                event.starts_with(b"data: 20") && event.ends_with(b"Z\n\n"),
                "{event:?}"
            );
        }
        assert_eq!(
            before.elapsed(),
            Duration::from_secs(2),
            "the first tick comes at once"
        );

        let page = html(shop.answer(get("/clock").body(empty()).unwrap()).await).await;
        assert!(page.contains("<script src=\"/clock.js\"></script>"));
    }

    #[tokio::test]
    async fn the_shop_answers_on_a_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(listener));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"POST /cart HTTP/1.1\r\nhost: shop\r\nremote-user: alice\r\ncontent-length: 10\r\n\r\nitem=Bread\
            GET / HTTP/1.1\r\nhost: shop\r\nremote-user: alice\r\ndoorward-session-data: cart=\"item=Bread\"\r\n\
            connection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 303 See Other\r\n"), "{answer}");
        let set = "\r\ndoorward-session-set: cart=\"item=Bread\"\r\n";
        assert!(answer.contains(set), "{answer}");
        assert!(answer.contains("<li>Bread</li>"), "{answer}");
        serving.abort();
    }
}
