//! How long a session of this user may live: the normal limits or those of a remembered one, and what the user's groups
//! take off them. Pure.

use std::time::Duration;

use super::Settings;

/// The two ends of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    pub idle: Duration,
    pub absolute: Duration,
}

/// What members of a group get at most.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupLimits {
    pub name: String,
    pub idle: Option<Duration>,
    pub absolute: Option<Duration>,
}

/// The strictest of what applies counts, so that no group gives anybody more time.
pub fn limits_of(settings: &Settings, groups: &[String], remembered: bool) -> Limits {
    let normal = Limits {
        idle: settings.idle_timeout,
        absolute: settings.absolute_timeout,
    };
    let wide = settings
        .remember_me
        .filter(|_| remembered)
        .unwrap_or(normal);
    let theirs = settings
        .groups
        .iter()
        .filter(|group| groups.contains(&group.name));
    theirs.fold(wide, |limits, group| Limits {
        idle: limits.idle.min(group.idle.unwrap_or(limits.idle)),
        absolute: limits
            .absolute
            .min(group.absolute.unwrap_or(limits.absolute)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn minutes(count: u64) -> Duration {
        Duration::from_mins(count)
    }

    fn settings(groups: Vec<GroupLimits>) -> Settings {
        Settings {
            remember_me: Some(Limits {
                idle: 30 * DAY,
                absolute: 90 * DAY,
            }),
            groups,
            ..Settings::default()
        }
    }

    fn group(name: &str, idle: Option<u64>, absolute: Option<u64>) -> GroupLimits {
        GroupLimits {
            name: name.to_owned(),
            idle: idle.map(minutes),
            absolute: absolute.map(minutes),
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_strictest_of_ones_groups_counts() {
        let settings = settings(vec![
            group("staff", Some(20), None),
            group("admins", Some(10), Some(60)),
            group("guests", None, Some(30)),
        ]);
        for (groups, idle, absolute) in [
            (&[][..], 30, 720),
            (&["others"], 30, 720),
            (&["staff"], 20, 720),
            (&["staff", "admins"], 10, 60),
            (&["guests", "admins", "staff"], 10, 30),
        ] {
            let limits = limits_of(&settings, &names(groups), false);
            let told = (limits.idle, limits.absolute);
            assert_eq!(told, (minutes(idle), minutes(absolute)), "{groups:?}");
        }
    }

    #[test]
    fn being_remembered_has_limits_of_its_own_and_groups_narrow_them_too() {
        let settings = settings(vec![group("staff", Some(20), None)]);
        let limits = limits_of(&settings, &[], true);
        assert_eq!((limits.idle, limits.absolute), (30 * DAY, 90 * DAY));
        let limits = limits_of(&settings, &names(&["staff"]), true);
        assert_eq!((limits.idle, limits.absolute), (minutes(20), 90 * DAY));
        let without = Settings::default();
        assert_eq!(
            limits_of(&without, &[], true),
            limits_of(&without, &[], false)
        );
    }

    proptest! {
        #[test]
        fn no_group_ever_gives_more_time(
            rules in prop::collection::vec((0..4_u8, prop::option::of(1..3000_u64), prop::option::of(1..3000_u64)), 0..6),
            of in prop::collection::vec(0..4_u8, 0..4), one_more in 0..4_u8, remembered: bool,
        ) {
            let rules = rules.into_iter().map(|(name, idle, absolute)| group(&name.to_string(), idle, absolute)).collect();
            let settings = settings(rules);
            let mut of: Vec<String> = of.iter().map(u8::to_string).collect();
            let before = limits_of(&settings, &of, remembered);
            of.push(one_more.to_string());
            let after = limits_of(&settings, &of, remembered);
            prop_assert!(after.idle <= before.idle && after.absolute <= before.absolute);
            let plain = limits_of(&settings, &[], remembered);
            prop_assert!(before.idle <= plain.idle && before.absolute <= plain.absolute);
        }
    }
}
