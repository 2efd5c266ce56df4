//! How many messages of one kind are written, as [`flood`](super::flood) bounds events: whatever a request may cause is
//! not to fill a disk, nor to hide what else is said. A kind is a place in the code together with the route or the
//! provider that a message names, so that one app's trouble does not hide another's.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::flood::Bucket;
use crate::clock::Clock;

/// Kinds that are told apart by what they name. Beyond these it is the place in the code alone.
const MAX_KINDS: usize = 1024;

/// Of a message that is left out, in bytes.
const MAX_SAID: usize = 200;

/// Lines about other lines, which are few by themselves.
const TARGET: &str = "doorward::left_out";

/// Turns down what is too much. Debugging messages all pass: whoever asks for them wants them.
#[derive(Debug)]
pub(super) struct Repeats {
    clock: Clock,
    kinds: Mutex<HashMap<(Identifier, u64), Kind>>,
}

#[derive(Debug)]
struct Kind {
    bucket: Bucket,
    level: Level,
    /// As its first message that was left out says it.
    of: Option<LeftOut>,
}

/// What is told of lines that were left out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct LeftOut {
    message: String,
    route: Option<String>,
    provider: Option<String>,
}

impl Repeats {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            kinds: Mutex::default(),
        }
    }

    fn admits(&self, event: &Event<'_>) -> bool {
        let meta = event.metadata();
        if *meta.level() > Level::INFO || meta.target() == TARGET {
            return true;
        }
        self.clock.tick();
        let mut named = Named::default();
        event.record(&mut named);
        let (place, named) = (meta.callsite(), named.0.finish());
        let mut kinds = self.kinds.lock();
        let is_told_apart = kinds.len() < MAX_KINDS || kinds.contains_key(&(place.clone(), named));
        let kind = kinds
            .entry((place, if is_told_apart { named } else { 0 }))
            .or_insert_with(|| Kind {
                bucket: Bucket::default(),
                level: *meta.level(),
                of: None,
            });
        let is_admitted = kind.bucket.take(self.clock.now());
        if !is_admitted {
            kind.of.get_or_insert_with(|| {
                let mut of = LeftOut::default();
                event.record(&mut of);
                of
            });
        }
        is_admitted
    }

    fn left_out(&self, all: bool) -> Vec<(Level, LeftOut, u64)> {
        self.clock.tick();
        let now = self.clock.now();
        let mut kinds = self.kinds.lock();
        let told = kinds.values_mut().filter_map(|kind| {
            let of = kind.of.as_ref()?;
            let count = kind.bucket.tell(now, all);
            (count > 0).then(|| (kind.level, of.clone(), count))
        });
        told.collect()
    }
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.admits(event)
    }
}

/// Says how many messages were left out, where it is time to say so, or of all. Every running process calls it each
/// [`TICK`](crate::clock::TICK).
pub fn tell_left_out(all: bool) {
    let told = tracing::dispatcher::get_default(|dispatch| {
        let repeats = dispatch.downcast_ref::<Repeats>();
        repeats.map(|repeats| repeats.left_out(all))
    });
    for (level, of, count) in told.unwrap_or_default() {
        let LeftOut {
            message,
            route,
            provider,
        } = of;
        macro_rules! say {
            ($level:expr) => {
                tracing::event!(target: TARGET, $level, count, of = message, route, provider, "more of the same was left out")
            };
        }
        match level {
            Level::ERROR => say!(Level::ERROR),
            Level::WARN => say!(Level::WARN),
            _ => say!(Level::INFO),
        }
    }
}

/// What a message names of the operator's own words.
#[derive(Default)]
struct Named(DefaultHasher);

impl Visit for Named {
    fn record_str(&mut self, field: &Field, value: &str) {
        if matches!(field.name(), "route" | "provider") {
            value.hash(&mut self.0);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl Visit for LeftOut {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "route" => self.route = Some(value.to_owned()),
            "provider" => self.provider = Some(value.to_owned()),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
            self.message
                .truncate(self.message.floor_char_boundary(MAX_SAID));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Arc;
    use std::time::Duration;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::clock::Timestamp;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn with(&self, part: &str) -> usize {
            let text = String::from_utf8(self.0.lock().clone()).unwrap();
            text.lines().filter(|line| line.contains(part)).count()
        }
    }

    /// What is written of what is said meanwhile.
    fn written(clock: &Clock, said: impl FnOnce(&Lines)) {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .without_time()
            .with_writer(move || writer.clone())
            .finish()
            .with(Repeats::new(clock.clone()));
        tracing::subscriber::with_default(subscriber, || said(&lines));
    }

    fn clock() -> Clock {
        Clock::fixed(Timestamp::from_millis(1_800_000_000_000))
    }

    fn trouble(request: u32, route: &str) {
        tracing::warn!(request, route, "no answer");
    }

    #[test]
    fn messages_of_one_kind_are_cut_to_a_burst_and_a_trickle_and_the_rest_is_counted() {
        let clock = clock();
        written(&clock, |lines| {
            (0..130).for_each(|request| trouble(request, "wiki"));
            assert_eq!(lines.with("no answer"), 100);
            assert_eq!(lines.with("request=99 "), 1, "as it was");
            tell_left_out(false);
            assert_eq!(lines.with("left out"), 0, "not at once");
            clock.advance(Duration::from_secs(10));
            tell_left_out(false);
            let told = "more of the same was left out count=30 of=\"no answer\" route=\"wiki\"";
            assert_eq!(lines.with(told), 1);
            assert_eq!(lines.with(" WARN doorward::left_out: "), 1);
            tell_left_out(true);
            assert_eq!(lines.with("left out"), 1, "once");
            (0..30).for_each(|request| trouble(request, "wiki"));
            assert_eq!(lines.with(" no answer"), 110, "ten seconds bring ten");
            tell_left_out(true);
            assert_eq!(lines.with("count=20 "), 1, "at the end at once");
        });
    }

    #[test]
    fn no_kind_hides_another() {
        written(&clock(), |lines| {
            (0..130).for_each(|request| trouble(request, "wiki"));
            trouble(1000, "shop");
            assert_eq!(lines.with("route=\"shop\""), 1, "nor one app another");
            tracing::warn!(route = "wiki", "something else");
            assert_eq!(lines.with("something else"), 1);
            tracing::error!("at last");
            assert_eq!(lines.with("ERROR"), 1);
        });
    }

    #[test]
    fn information_is_bounded_too_and_what_is_asked_for_to_debug_is_not() {
        written(&clock(), |lines| {
            for number in 0..130 {
                tracing::info!(number, "told");
                tracing::debug!(number, "shown");
            }
            assert_eq!((lines.with("told"), lines.with("shown")), (100, 130));
            tell_left_out(true);
            assert_eq!(lines.with(" INFO doorward::left_out: "), 1);
        });
    }

    #[test]
    fn what_is_told_apart_has_a_bound() {
        written(&clock(), |lines| {
            (0..3000).for_each(|number| trouble(number, &number.to_string()));
            assert_eq!(lines.with("no answer"), MAX_KINDS + 100);
        });
    }
}
