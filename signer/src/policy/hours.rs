//! When a rule holds: days of the week and hours of the day, in a time zone of the IANA database.
//!
//! ```toml
//! hours = { days = ["mon", "tue", "wed", "thu", "fri"], from = "09:00", to = "17:30", zone = "Europe/Zurich" }
//! ```

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, tz};
use serde::{Deserialize, Serialize, Serializer};

/// A time window as people write it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoursConfig {
    /// The days on which the window opens: `mon` to `sun`.
    pub days: Vec<Day>,
    /// When it opens, `09:00`.
    pub from: String,
    /// When it closes, `17:30`; where that isn't later than `from`, on the next day. `24:00` is the day's end.
    pub to: String,
    /// The time zone, `Europe/Zurich`.
    pub zone: String,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// A compiled time window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hours {
    config: HoursConfig,
    days: Days,
    /// Minutes after midnight.
    from: u16,
    to: u16,
    zone: TimeZone,
}

/// Some days of the week, a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Days(u8);

/// What the clock of a zone shows.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    today: Day,
    yesterday: Day,
    /// Minutes after midnight.
    minute: u16,
}

/// What is wrong with a time window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HoursError {
    /// No day.
    #[error("name the days on which the window opens")]
    NoDay,
    /// No time of day.
    #[error("{0:?} is no time of day; write 09:00")]
    Time(String),
    /// No time zone.
    #[error("{0:?} is no time zone of the IANA database; write Europe/Zurich")]
    Zone(String),
}

/// Minutes of a day.
const DAY: u16 = 24 * 60;

impl HoursConfig {
    /// Compiles the window.
    ///
    /// # Errors
    /// For the first thing in it that can't mean anything.
    pub(super) fn compile(&self) -> Result<Hours, HoursError> {
        if self.days.is_empty() {
            return Err(HoursError::NoDay);
        }
        let zone = tz::db().get(&self.zone).map_err(|_| HoursError::Zone(self.zone.clone()))?;
        let days = Days::new(&self.days);
        Ok(Hours { config: self.clone(), days, from: minutes(&self.from)?, to: minutes(&self.to)?, zone })
    }
}

impl Hours {
    /// Whether the window is open at an instant, in milliseconds since 1970. An instant beyond the calendar finds it closed.
    pub(super) fn contains(&self, unix_millis: u64) -> bool {
        self.clock(unix_millis).is_some_and(|clock| self.is_open(clock))
    }

    /// What the clock of the window's zone shows at an instant, in milliseconds since 1970; none beyond the calendar.
    pub(super) fn clock(&self, unix_millis: u64) -> Option<Clock> {
        let at = Timestamp::from_millisecond(i64::try_from(unix_millis).ok()?).ok()?;
        let local = at.to_zoned(self.zone.clone()).datetime();
        let (today, yesterday) = (local.weekday().into(), local.weekday().previous().into());
        Some(Clock { today, yesterday, minute: minute_of(local.time()) })
    }

    /// Whether the window is open when the clock of its zone shows this.
    pub(super) fn is_open(&self, Clock { today, yesterday, minute }: Clock) -> bool {
        if self.from < self.to {
            return self.days.contains(today) && (self.from..self.to).contains(&minute);
        }
        (self.days.contains(today) && minute >= self.from) || (self.days.contains(yesterday) && minute < self.to)
    }

    /// The name of the window's zone.
    pub(super) fn zone(&self) -> &str {
        &self.config.zone
    }
}

impl Days {
    fn new(days: &[Day]) -> Self {
        Self(days.iter().fold(0, |days, day| days | 1 << (*day as u8)))
    }

    const fn contains(self, day: Day) -> bool {
        self.0 & 1 << (day as u8) != 0
    }
}

impl Hours {
    /// The window as it was written.
    pub(super) fn config(&self) -> &HoursConfig {
        &self.config
    }

    /// Every instant of a span at which the window may open or close, in milliseconds since 1970: where a day's times say
    /// so, and where the zone's clock is put forward or back. Unordered; a span's end beyond the calendar is cut off.
    pub(super) fn edges(&self, from: u64, until: u64) -> Vec<u64> {
        let instant =
            |millis: u64| i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
        let Some(first) = instant(from) else { return Vec::new() };
        let last = instant(until).unwrap_or(Timestamp::MAX);
        let local = first.to_zoned(self.zone.clone()).date();
        let days = local.yesterday().into_iter().chain(local.series(1.day()));
        let days = days
            .take_while(|day| day.at(0, 0, 0, 0).to_zoned(self.zone.clone()).is_ok_and(|at| at.timestamp() <= last));
        let times = days.flat_map(|day| [self.from, self.to].map(|minute| (day, minute))).flat_map(|(day, minute)| {
            let midnight = day.at(0, 0, 0, 0).checked_add(i64::from(minute).minutes());
            let both = midnight.map(|at| {
                let at = self.zone.to_ambiguous_zoned(at);
                [at.clone().earlier(), at.later()]
            });
            both.into_iter().flatten().flatten().map(|at| at.timestamp())
        });
        let changes = self.zone.following(first).map(|change| change.timestamp()).take_while(|at| *at <= last);
        let all = times.chain(changes).filter_map(|at| u64::try_from(at.as_millisecond()).ok());
        all.filter(|at| (from..=until).contains(at)).collect()
    }

    /// The next instant, this one included, at which the window is open (or isn't), in milliseconds since 1970; `None`
    /// where there is none within nine days.
    pub(super) fn next(&self, open: bool, from: u64) -> Option<u64> {
        const SPAN_MS: u64 = 9 * 24 * 60 * 60 * 1000;
        let edges = self.edges(from, from.saturating_add(SPAN_MS));
        edges.into_iter().chain([from]).filter(|at| self.contains(*at) == open).min()
    }
}

impl Serialize for Hours {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.config.serialize(serializer)
    }
}

impl From<Weekday> for Day {
    fn from(day: Weekday) -> Self {
        match day {
            Weekday::Monday => Self::Mon,
            Weekday::Tuesday => Self::Tue,
            Weekday::Wednesday => Self::Wed,
            Weekday::Thursday => Self::Thu,
            Weekday::Friday => Self::Fri,
            Weekday::Saturday => Self::Sat,
            Weekday::Sunday => Self::Sun,
        }
    }
}

fn minute_of(time: Time) -> u16 {
    let part = |value: i8| u16::try_from(value).unwrap_or_default();
    part(time.hour()).saturating_mul(60).saturating_add(part(time.minute()))
}

/// `09:00` as minutes after midnight; `24:00` too.
fn minutes(text: &str) -> Result<u16, HoursError> {
    let wrong = || HoursError::Time(text.chars().take(20).collect());
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let two = |digits: &str| -> Option<u16> {
        let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| plain)
    };
    let (hour, minute) = (two(hour).ok_or_else(wrong)?, two(minute).filter(|minute| *minute < 60).ok_or_else(wrong)?);
    let minutes = hour.saturating_mul(60).saturating_add(minute);
    if minutes <= DAY { Ok(minutes) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn hours(days: &[Day], from: &str, to: &str, zone: &str) -> Hours {
        let config = HoursConfig { days: days.to_vec(), from: from.into(), to: to.into(), zone: zone.into() };
        config.compile().unwrap()
    }

    fn at(text: &str) -> u64 {
        u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
    }

    const WEEK: [Day; 5] = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri];

    #[test]
    fn it_opens_and_closes_by_the_zone_s_own_clock() {
        let office = hours(&WEEK, "09:00", "17:30", "Europe/Zurich");
        // 20 November 2026 is a Friday; Zurich is an hour ahead of UTC in winter, two in summer.
        assert!(!office.contains(at("2026-11-20T07:59:59Z")));
        assert!(office.contains(at("2026-11-20T08:00:00Z")));
        assert!(office.contains(at("2026-11-20T16:29:59Z")));
        assert!(!office.contains(at("2026-11-20T16:30:00Z")));
        assert!(!office.contains(at("2026-11-21T10:00:00Z")), "Saturday");
        assert!(office.contains(at("2026-07-20T07:00:00Z")));
        assert!(!office.contains(at("2026-07-20T15:30:00Z")));
        assert!(!office.contains(u64::MAX));
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let night = hours(&[Day::Fri], "22:00", "06:00", "UTC");
        assert!(night.contains(at("2026-11-20T22:00:00Z")));
        assert!(night.contains(at("2026-11-21T05:59:00Z")));
        assert!(!night.contains(at("2026-11-21T06:00:00Z")));
        assert!(!night.contains(at("2026-11-20T05:00:00Z")), "Thursday's night");
        let whole = hours(&[Day::Sun], "00:00", "24:00", "UTC");
        assert!(whole.contains(at("2026-11-22T00:00:00Z")) && whole.contains(at("2026-11-22T23:59:59Z")));
        assert!(!whole.contains(at("2026-11-23T00:00:00Z")));
    }

    #[test]
    fn its_edges_are_all_the_instants_at_which_it_changes() {
        // Zurich's clock is put forward on 29 March 2026 at 02:00, and back on 25 October at 03:00.
        for (from, until) in
            [("2026-03-26T00:00:00Z", "2026-04-01T00:00:00Z"), ("2026-10-23T00:00:00Z", "2026-10-28T00:00:00Z")]
        {
            let (from, until) = (at(from), at(until));
            for (opens, closes) in [("09:00", "17:30"), ("02:15", "02:30"), ("22:00", "02:45"), ("00:00", "24:00")] {
                let window = hours(&[Day::Sat, Day::Sun, Day::Wed], opens, closes, "Europe/Zurich");
                let edges: BTreeSet<u64> = window.edges(from, until).into_iter().collect();
                for minute in (from + 60_000..=until).step_by(60_000) {
                    let changed = window.contains(minute) != window.contains(minute - 60_000);
                    assert!(!changed || edges.contains(&minute), "{opens} {minute}");
                }
                let opening = window.next(true, from).unwrap();
                assert!(window.contains(opening) && (opening == from || !window.contains(opening - 1)), "{opens}");
                assert!(!window.contains(window.next(false, opening).unwrap()));
            }
        }
    }

    #[test]
    fn what_is_no_window_is_refused() {
        let with = |from: &str, to: &str, zone: &str, days: &[Day]| {
            HoursConfig { days: days.to_vec(), from: from.into(), to: to.into(), zone: zone.into() }.compile()
        };
        for time in ["", "9:00", "09:60", "24:01", "25:00", "0900", "09:0x", "+9:00"] {
            assert!(matches!(with(time, "17:00", "UTC", &WEEK), Err(HoursError::Time(_))), "{time:?}");
        }
        assert!(matches!(with("09:00", "17:00", "Middle/Earth", &WEEK), Err(HoursError::Zone(_))));
        assert_eq!(with("09:00", "17:00", "UTC", &[]), Err(HoursError::NoDay));
    }
}
