//! The rules of `[session]` about people: how long they may stay, by what assurance and in which group, how many sessions
//! they may have, and what a session is bound to.

use std::time::Duration;

use super::session::{LONGEST, Placed};
use crate::config::reader::{Section, Value, quoted, show_duration};
use crate::session::{Bind, Consequence, GroupLimits, Limits, OnLimit, PerUser, Settings};

/// Longer than any device should be trusted without a new login; browsers keep no cookie longer than 400 days.
const LONGEST_MEMORY: Duration = Duration::from_hours(365 * 24);

/// More sessions than anybody could look through.
const MOST_SESSIONS: i64 = 10_000;

/// What an authentication assurance level of NIST SP 800-63B-4 (section 2) says about time.
#[derive(Clone, Copy, Debug)]
struct Level {
    name: &'static str,
    /// `None`: the level asks for none.
    idle: Option<Duration>,
    absolute: Duration,
}

const LEVELS: [Level; 3] = [
    Level {
        name: "aal1",
        idle: None,
        absolute: Duration::from_hours(30 * 24),
    },
    Level {
        name: "aal2",
        idle: Some(Duration::from_hours(1)),
        absolute: Duration::from_hours(24),
    },
    Level {
        name: "aal3",
        idle: Some(Duration::from_mins(15)),
        absolute: Duration::from_hours(12),
    },
];

/// `assurance`, and where it stands.
#[derive(Debug)]
pub(super) struct Assurance<'a> {
    level: Level,
    value: Value<'a>,
}

impl<'a> Assurance<'a> {
    pub(super) fn read(section: &Section<'a>) -> Option<Self> {
        let value = section.value("assurance")?;
        let level = value.choice(&LEVELS.map(|level| (level.name, level)))?;
        Some(Self { level, value })
    }

    /// The timeouts where no others are given.
    pub(super) fn defaults(this: Option<&Self>) -> Settings {
        let defaults = Settings::default();
        let Some(level) = this.map(|this| this.level) else {
            return defaults;
        };
        Settings {
            idle_timeout: level.idle.unwrap_or(defaults.idle_timeout),
            absolute_timeout: level.absolute,
            ..defaults
        }
    }

    /// Complains about timeouts that the level does not allow.
    pub(super) fn judge(&self, idle: Placed<'_, 'a>, absolute: Placed<'_, 'a>) {
        let most = self.level.idle.unwrap_or(self.level.absolute);
        for (given, most) in [(idle, most), (absolute, self.level.absolute)] {
            let Some((length, value)) = given.filter(|(length, _)| *length > most) else {
                continue;
            };
            let (long, short) = (show_duration(*length), show_duration(most));
            let line = value.report().line(&self.value.place());
            let level = quoted(self.level.name);
            let complaint = value.wrong(format!(
                "{long} is longer than `assurance` = {level} on line {line} allows ({short})"
            ));
            complaint
                .other(self.value.place(), "the limits of NIST SP 800-63B-4")
                .help("beside `assurance`, timeouts may only be stricter; make it shorter, or leave `assurance` out")
                .push();
        }
    }
}

/// `remember_me`: limits of its own for who ticks the box.
pub(super) fn remember_me(
    section: &Section<'_>,
    assurance: Option<&Assurance<'_>>,
) -> Option<Limits> {
    let value = section.value("remember_me")?;
    value.table()?;
    let own = section.section("remember_me");
    let example = "remember_me = { idle_timeout = \"30d\", absolute_timeout = \"90d\" }";
    let range = Duration::from_mins(1)..=LONGEST_MEMORY;
    let read = |key| {
        let value = own.required(key, example)?;
        Some((value.duration_in(range.clone())?, value))
    };
    let (idle, absolute) = (read("idle_timeout"), read("absolute_timeout"));
    own.finish();
    if let Some(assurance) = assurance {
        assurance.judge(idle.as_ref(), absolute.as_ref());
    }
    let ((idle, idle_value), (absolute, _)) = (idle?, absolute?);
    if idle > absolute {
        let (long, short) = (show_duration(idle), show_duration(absolute));
        let complaint = idle_value.wrong(format!(
            "{long} is longer than the `absolute_timeout` beside it ({short})"
        ));
        complaint
            .help("a session that may idle longer than it lives never idles out; make it the shorter one")
            .push();
    }
    Some(Limits { idle, absolute })
}

/// Every `[[session.group]]`.
pub(super) fn groups(section: &Section<'_>, whole: Limits) -> Vec<GroupLimits> {
    let mut seen: Vec<String> = Vec::new();
    let read = |group: Section<'_>| {
        let name = group.required("name", "name = \"staff\"");
        let named = name.as_ref().and_then(Value::text);
        let idle = narrower(&group, "idle_timeout", whole.idle);
        let absolute = narrower(&group, "absolute_timeout", whole.absolute);
        if let (Some(value), Some(text)) = (&name, named) {
            if seen.iter().any(|other| other == text) {
                value
                    .wrong(format!("{} has its limits already", quoted(text)))
                    .help("one `[[session.group]]` for each group")
                    .push();
            }
            seen.push(text.to_owned());
        }
        if idle.is_none()
            && absolute.is_none()
            && group.value("idle_timeout").is_none()
            && group.value("absolute_timeout").is_none()
        {
            group
                .wrong("limits nothing")
                .help("give `idle_timeout`, `absolute_timeout` or both")
                .push();
        }
        group.finish();
        Some(GroupLimits {
            name: named?.to_owned(),
            idle,
            absolute,
        })
    };
    let sections = section.sections("group");
    sections.into_iter().filter_map(read).collect()
}

fn narrower(group: &Section<'_>, key: &'static str, whole: Duration) -> Option<Duration> {
    let (length, value) = group.placed_duration(key)?;
    if length > whole {
        let (long, short) = (show_duration(length), show_duration(whole));
        value
            .wrong(format!(
                "{long} is longer than the session's own `{key}` ({short})"
            ))
            .help("a group can end sessions earlier, never later")
            .push();
    }
    Some(length)
}

pub(super) fn per_user(section: &Section<'_>) -> PerUser {
    let max = section.integer_in("max_per_user", 0..=MOST_SESSIONS);
    let choices = [OnLimit::EvictOldest, OnLimit::Deny].map(|rule| (rule.name(), rule));
    let on_limit = section.value("on_limit");
    let chosen = on_limit.as_ref().and_then(|value| value.choice(&choices));
    if let Some(value) = &on_limit
        && section.value("max_per_user").is_none()
    {
        value
            .wrong("says what happens at a limit, and there is none")
            .at_key()
            .help("add `max_per_user = 5`, or remove it")
            .push();
    }
    PerUser {
        max: max.unwrap_or(0),
        on_limit: chosen.unwrap_or_default(),
    }
}

pub(super) fn bind(section: &Section<'_>) -> Bind {
    let own = section.section("bind");
    let choices = Consequence::ALL.map(|then| (then.name(), then));
    let bind = Bind {
        user_agent: own.choice("user_agent", &choices).unwrap_or_default(),
        network: own.choice("network", &choices).unwrap_or_default(),
    };
    own.finish();
    bind
}

/// The absolute timeout of a session that nobody asked to remember.
pub(super) fn judge_longest(absolute: Placed<'_, '_>) {
    if let Some((length, value)) = absolute.filter(|(length, _)| *length > LONGEST) {
        let complaint = value.wrong(format!(
            "{} is too long for a session",
            show_duration(*length)
        ));
        complaint
            .help(format!(
                "at most \"{}\"; `remember_me` gives more to who asks for it",
                show_duration(LONGEST)
            ))
            .push();
    }
}
