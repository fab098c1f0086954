//! The version that an operator asks for: by its number, by its release, or counted from where the database is.

use crate::error::{Error, ExitCode, Result};
use crate::ledger::Ledger;
use crate::timeline::{Number, Timeline};
use crate::verdict::Postgres;

/// Finds the version that `asked` means: `head`, `+N` counted from `at`, a version's number, or a release. A `v` before a release
/// makes no difference. A release that changed nothing has no version: it runs on the newest one that is not above it.
///
/// # Errors
/// 64 if the timeline has no such version.
pub fn resolve(timeline: &Timeline, asked: &str, at: Number) -> Result<Number> {
    let versions = &timeline.versions;
    let found = if asked == "head" {
        Some(timeline.head().map_or(0, |version| version.number))
    } else if let Some(steps) = asked.strip_prefix('+') {
        let pending = versions.iter().filter(|version| version.number > at);
        let steps = steps.parse::<usize>().ok().and_then(|steps| steps.checked_sub(1));
        steps.and_then(|index| pending.map(|version| version.number).nth(index))
    } else {
        let numbered = asked.parse().ok().and_then(|number| timeline.version(number));
        numbered.map(|version| version.number).or_else(|| released(timeline, asked))
    };
    found.ok_or_else(|| {
        let pending = versions.iter().filter(|version| version.number > at).count();
        let range = match (versions.first(), versions.last()) {
            (Some(first), Some(last)) => format!("from {} to {}", first.number, last.number),
            _ => "in it: none".into(),
        };
        Error::new(ExitCode::Usage, format!("the timeline has no version `{asked}`"))
            .expected(format!(
                "head, +1 to +{pending} from version {at}, or a number or release of the versions {range}"
            ))
            .remedy("tandem status lists them")
    })
}

/// The newest version of a release, or of the last one before it. Before the first one there is none. Beyond the last one there is
/// only what differs in its last number, as the releases of one line do: anything else is more likely a slip.
fn released(timeline: &Timeline, asked: &str) -> Option<Number> {
    let plain = |release: &str| release.strip_prefix('v').unwrap_or(release).to_owned();
    let numbers = |release: &str| -> Option<Vec<u64>> {
        plain(release)
            .split('.')
            .map(|part| part.parse().ok())
            .collect::<Option<Vec<u64>>>()
            .filter(|n| n.len() > 1)
    };
    let labelled = || timeline.versions.iter().filter_map(|v| Some((v.number, v.release.as_deref()?)));
    if let Some((number, _)) = labelled().rfind(|(_, release)| plain(release) == plain(asked)) {
        return Some(number);
    }
    let asked = numbers(asked)?;
    let known: Vec<(Number, Vec<u64>)> =
        labelled().map(|(number, release)| Some((number, numbers(release)?))).collect::<Option<_>>()?;
    if !known.iter().is_sorted_by(|(_, a), (_, b)| a.len() == asked.len() && b.len() == asked.len() && a <= b)
    {
        return None;
    }
    let at = known.iter().rposition(|(_, release)| release.len() == asked.len() && *release <= asked)?;
    let (number, release) = &known[at];
    let last = asked.len() - 1;
    (at + 1 < known.len() || release[..last] == asked[..last]).then_some(*number)
}

/// Where Postgres is: the newest version that is proven or that its ledger names.
pub fn reached(verdict: &Postgres, ledger: Option<&Ledger>) -> Number {
    let proven = match verdict {
        Postgres::Versioned { at, .. }
        | Postgres::Legacy { at, .. }
        | Postgres::Adopted { at, .. }
        | Postgres::Ahead { at, .. }
        | Postgres::Stale { proven: Some(at), .. } => *at,
        Postgres::Partial { repair, .. } => repair.at,
        Postgres::Fresh
        | Postgres::Stale { proven: None, .. }
        | Postgres::Diverged(_)
        | Postgres::Foreign { .. } => 0,
    };
    proven.max(ledger.map_or(0, Ledger::at))
}

/// The target of an upgrade, which only goes forward.
///
/// # Errors
/// 64 for a version that the timeline does not have, 76 for one that the database is beyond.
pub fn target(timeline: &Timeline, asked: &str, at: Number) -> Result<Number> {
    // Nothing can be counted from a version that this image does not know.
    let head = timeline.head().map_or(0, |version| version.number);
    let target = if at > head { head } else { resolve(timeline, asked, at)? };
    if target < at {
        return Err(beyond(at, target));
    }
    Ok(target)
}

/// The refusal of a target that Postgres has left behind.
pub fn beyond(at: Number, target: Number) -> Error {
    Error::new(ExitCode::Refused, format!("Postgres is at version {at}, which is beyond version {target}"))
        .expected("a target that is not behind the database")
        .remedy("choose a newer version; to start an older image, see compatible_from in tandem history")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::load;

    fn timeline() -> Timeline {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        load(&directory, &|_| None).unwrap()
    }

    #[test]
    fn a_target_is_a_number_a_release_a_count_or_the_head() {
        let timeline = timeline();
        let head = timeline.head().unwrap().number;
        let release = timeline.version(2).unwrap().release.clone().unwrap();
        let release = release.trim_start_matches('v');
        for (asked, at, found) in [
            ("head", 0, Some(head)),
            ("+1", 0, Some(1)),
            ("+2", 3, Some(5)),
            ("+0", 3, None),
            ("+1", head, None),
            ("3", 1, Some(3)),
            ("2", 2, Some(2)),
            (release, 0, Some(2)),
            (&format!("v{release}"), 0, Some(2)),
            ("999", 0, None),
            ("-1", 3, None),
            ("", 0, None),
            ("9.9.9", 0, None),
        ] {
            let resolved = resolve(&timeline, asked, at);
            assert_eq!(resolved.as_ref().ok().copied(), found, "{asked:?} from {at}: {resolved:?}");
            if let Err(error) = resolved {
                assert_eq!(error.code, ExitCode::Usage);
            }
        }
    }

    #[test]
    fn a_release_without_a_version_is_the_last_one_before_it() {
        let of = |releases: &[&str]| {
            let mut timeline = timeline();
            timeline.versions.truncate(releases.len());
            for (version, release) in timeline.versions.iter_mut().zip(releases) {
                version.release = (!release.is_empty()).then(|| (*release).to_owned());
            }
            timeline
        };
        let line = &["1.0.6", "1.0.8", "1.0.10", "1.1.0", "v2.0.0"][..];
        for (releases, asked, found) in [
            (line, "1.0.8", Some(2)),
            (line, "1.0.9", Some(2)),
            (line, "v1.0.9", Some(2)),
            (line, "1.0.99", Some(3)),
            (line, "1.0.7", Some(1)),
            (line, "1.9.9", Some(4)),
            (line, "2.0.7", Some(5)),
            // Before the first, beyond the line, of another form, no release at all.
            (line, "1.0.5", None),
            (line, "2.1.0", None),
            (line, "9.9.9", None),
            (line, "1.0", None),
            (line, "1.0.9.1", None),
            (line, "1.0.9-rc1", None),
            (line, "1..9", None),
            (line, "1.0.", None),
            (line, "latest", None),
            // A label that is no number, or labels that do not grow, order nothing; they are still found by name.
            (&["1.0.6", "spring", "1.0.10"], "1.0.8", None),
            (&["1.0.6", "spring", "1.0.10"], "spring", Some(2)),
            (&["1.0.9", "1.0.6", "1.0.10"], "1.0.7", None),
            (&["1.0.6", "", "1.0.8"], "1.0.7", Some(1)),
            (&["1.0.6", "1.0.6", "1.0.8"], "1.0.7", Some(2)),
            (&["1.0.6"], "1.0.40", Some(1)),
            (&[], "1.0.6", None),
        ] {
            assert_eq!(resolve(&of(releases), asked, 0).ok(), found, "{asked} in {releases:?}");
        }
        let whole = timeline();
        let found = |asked| resolve(&whole, asked, 0).unwrap();
        assert_eq!(whole.version(found("1.0.11")).unwrap().release.as_deref(), Some("1.0.10"));
        assert_eq!(found("1.0.40"), whole.head().unwrap().number);
    }

    #[test]
    fn an_upgrade_never_goes_back() {
        let timeline = timeline();
        let head = timeline.head().unwrap().number;
        for (asked, at) in [("2", 3), ("head", head + 1), ("+1", head + 1)] {
            assert_eq!(
                target(&timeline, asked, at).unwrap_err().code,
                ExitCode::Refused,
                "{asked} from {at}"
            );
        }
        assert_eq!(target(&timeline, "head", head).unwrap(), head);
    }
}
