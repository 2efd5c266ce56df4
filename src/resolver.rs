//! From the name of a server to its addresses, as the system knows them. A lookup that has begun cannot be called off
//! and takes a thread of its runtime until the system gives up: a name server that says nothing must not get them all.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// How long anybody waits for a lookup. One that takes longer is left to itself, and the next who asks begins another.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lookups of one name that may be under way, with those left to themselves.
const MOST: usize = 4;

/// The same of all names.
const MOST_OF_ALL: usize = 32;

/// Looks names up for one owner: an app, a provider. Whoever asks for a name that is being looked up waits for that
/// answer. Nothing is kept. Clones share what is under way.
#[derive(Clone)]
pub struct Resolver {
    ask: Ask,
    under_way: Arc<Mutex<UnderWay>>,
}

type Ask = Arc<dyn Fn(String) -> Asked + Send + Sync>;
type Asked = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
type Answer = Result<Vec<IpAddr>, Arc<io::Error>>;

/// By name, the latest last.
#[derive(Default)]
struct UnderWay {
    names: HashMap<String, Vec<Lookup>>,
    /// Lookups ever begun.
    begun: u64,
}

struct Lookup {
    number: u64,
    since: Instant,
    answer: watch::Receiver<Option<Answer>>,
}

impl Default for Resolver {
    /// By the system's own resolver.
    fn default() -> Self {
        Self::asking(|host| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((host, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        })
    }
}

impl Resolver {
    /// By another one, as in tests.
    pub fn asking(ask: impl Fn(String) -> Asked + Send + Sync + 'static) -> Self {
        Self {
            ask: Arc::new(ask),
            under_way: Arc::default(),
        }
    }

    /// All addresses of a name or, where it is one, the address itself. At least one; `TimedOut` where there is no
    /// answer within ten seconds, `ResourceBusy` at once where too many lookups are without one.
    pub async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let mut answer = self.lookup(host)?;
        let answered = timeout(PATIENCE, answer.wait_for(Option::is_some)).await;
        let answered = answered.map_err(|_| {
            let late = format!("the name {host} was not found within {PATIENCE:?}");
            io::Error::new(io::ErrorKind::TimedOut, late)
        })?;
        match answered.as_deref() {
            Ok(Some(Ok(found))) if !found.is_empty() => Ok(found.clone()),
            Ok(Some(Err(error))) => Err(io::Error::new(error.kind(), error.to_string())),
            Ok(_) => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("the name {host} has no address"),
            )),
            Err(_) => Err(io::Error::other("the lookup was called off")),
        }
    }

    /// Connects to the first address of a name that lets it, in their order.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let addresses = self.addresses(host).await?;
        let places = addresses.into_iter().map(|ip| SocketAddr::new(ip, port));
        let places: Vec<_> = places.collect();
        TcpStream::connect(places.as_slice()).await
    }

    /// The one that is under way, or a new one.
    fn lookup(&self, host: &str) -> io::Result<watch::Receiver<Option<Answer>>> {
        let mut under_way = self.under_way.lock();
        let all: usize = under_way.names.values().map(Vec::len).sum();
        let known = under_way.names.get(host).map_or(&[][..], Vec::as_slice);
        if let Some(last) = known.last()
            && last.since.elapsed() < PATIENCE
        {
            return Ok(last.answer.clone());
        }
        if known.len() >= MOST || all >= MOST_OF_ALL {
            let many = format!("the name {host} is not looked up: too many lookups have no answer");
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, many));
        }
        let number = under_way.begun;
        let (tell, answer) = watch::channel(None);
        under_way.begun += 1;
        let lookup = Lookup {
            number,
            since: Instant::now(),
            answer: answer.clone(),
        };
        under_way
            .names
            .entry(host.to_owned())
            .or_default()
            .push(lookup);
        drop(under_way);
        let asked = (self.ask)(host.to_owned());
        let place = Place {
            under_way: self.under_way.clone(),
            host: host.to_owned(),
            number,
        };
        tokio::spawn(async move {
            let answer = asked.await.map_err(Arc::new);
            // Whoever asks from now on asks anew.
            drop(place);
            tell.send_replace(Some(answer));
        });
        Ok(answer)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.under_way.lock().names.len();
        f.debug_struct("Resolver")
            .field("under_way", &names)
            .finish_non_exhaustive()
    }
}

/// A lookup's entry, however it ends.
struct Place {
    under_way: Arc<Mutex<UnderWay>>,
    host: String,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut under_way = self.under_way.lock();
        if let Some(lookups) = under_way.names.get_mut(&self.host) {
            lookups.retain(|lookup| lookup.number != self.number);
            if lookups.is_empty() {
                under_way.names.remove(&self.host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// A resolver that counts what it is asked, and answers when it is let.
    fn silent() -> (Resolver, Arc<AtomicUsize>, Arc<Semaphore>) {
        let (asked, lets) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (count, gate) = (asked.clone(), lets.clone());
        let resolver = Resolver::asking(move |host| {
            count.fetch_add(1, Ordering::SeqCst);
            let gate = gate.clone();
            Box::pin(async move {
                gate.acquire().await.unwrap().forget();
                match host.as_str() {
                    "app.example" => Ok(vec![IpAddr::from([192, 0, 2, 1])]),
                    "empty.example" => Ok(Vec::new()),
                    _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
                }
            })
        });
        (resolver, asked, lets)
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_a_name_that_is_looked_up_waits_for_that_answer() {
        let (resolver, asked, lets) = silent();
        let all = join_all((0..100).map(|_| resolver.addresses("app.example")));
        let (all, ()) = tokio::join!(all, async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            lets.add_permits(1);
        });
        let found = IpAddr::from([192, 0, 2, 1]);
        assert!(all.into_iter().all(|answer| answer.unwrap() == [found]));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        lets.add_permits(1);
        resolver.addresses("app.example").await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 2, "nothing is kept");
    }

    #[tokio::test(start_paused = true)]
    async fn lookups_without_an_answer_are_few_and_nobody_waits_for_them_long() {
        let (resolver, asked, lets) = silent();
        for number in 1..=MOST {
            let began = Instant::now();
            let all = join_all((0..100).map(|_| resolver.addresses("app.example"))).await;
            let late = |error: io::Error| error.kind() == io::ErrorKind::TimedOut;
            assert!(all.into_iter().all(|answer| late(answer.unwrap_err())));
            assert_eq!(began.elapsed(), PATIENCE);
            assert_eq!(asked.load(Ordering::SeqCst), number);
        }
        let began = Instant::now();
        for _ in 0..100 {
            let refused = resolver.addresses("app.example").await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy, "{refused}");
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(asked.load(Ordering::SeqCst), MOST);
        // Those that end make room.
        lets.add_permits(MOST + 1);
        while resolver.under_way.lock().names.contains_key("app.example") {
            tokio::task::yield_now().await;
        }
        assert!(resolver.addresses("app.example").await.is_ok());
        assert_eq!(asked.load(Ordering::SeqCst), MOST + 1);
        assert!(resolver.under_way.lock().names.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_name_does_not_hold_another_up_and_all_of_them_have_a_bound() {
        let (resolver, asked, _lets) = silent();
        let names: Vec<_> = (0..100).map(|number| format!("{number}.example")).collect();
        let all = join_all(names.iter().map(|name| resolver.addresses(name))).await;
        let late = all.into_iter().map(|answer| answer.unwrap_err().kind());
        let late = late.filter(|kind| *kind == io::ErrorKind::TimedOut).count();
        assert_eq!(late, MOST_OF_ALL);
        assert_eq!(asked.load(Ordering::SeqCst), MOST_OF_ALL);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_answer_is_an_error_and_an_address_is_not_looked_up() {
        let (resolver, asked, lets) = silent();
        lets.add_permits(2);
        for name in ["empty.example", "nobody.example"] {
            let error = resolver.addresses(name).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        for text in ["127.0.0.1", "::1"] {
            let found = resolver.addresses(text).await.unwrap();
            assert_eq!(found, [text.parse::<IpAddr>().unwrap()]);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn the_systems_own_resolver_is_asked() {
        let found = Resolver::default().addresses("localhost").await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
    }
}
