//! What is kept beside the live collections: those that were replaced, and snapshots taken before a change. Each is in
//! the journal by its exact name before it is created or replaced; that, and nothing else, licenses its removal.

use crate::collection::{Rebuild, Stage, no_shadow};
use crate::error::{Error, ExitCode, Result};
use crate::operate::{self, Place};
use crate::postgres::lock::{self, Held, Key};
use crate::postgres::session::Session;
use crate::postgres::store::Store;
use crate::qdrant::Client;
use crate::timeline::Number;
use crate::words::thousands;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::time::Duration;

/// One thing that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained {
    /// A collection's real name, or a snapshot's.
    pub name: String,
    pub kind: Kind,
    /// What applications call the collection that it belongs to: a real name or an alias.
    pub of: String,
    /// Exact at the time; `None` if it was not there yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<u64>,
    /// The version of its stamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Number>,
}

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Collection,
    /// Of this real collection; it can be listed only while that exists.
    Snapshot {
        collection: String,
    },
}

/// A journal row about something that is kept, for `tandem retained list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    #[serde(flatten)]
    pub retained: Retained,
    /// UTC, to the second.
    pub at: String,
    pub state: State,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Kept,
    /// Applications reach it by these aliases.
    Live {
        aliases: Vec<String>,
    },
    /// Qdrant does not have it.
    Gone,
}

/// What is in the journal as kept, the oldest first, with what became of it. What is gone is left out.
pub async fn list(session: &mut Session, store: &Store, client: &Client) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for (retained, at) in store.retained(session).await? {
        let state = state(client, &retained).await?;
        if state != State::Gone {
            entries.push(Entry { retained, at, state });
        }
    }
    Ok(entries)
}

async fn state(client: &Client, retained: &Retained) -> Result<State> {
    match &retained.kind {
        Kind::Collection => {
            let survey = client.survey(&[]).await?;
            let leads = survey.aliases.iter().filter(|(_, real)| **real == retained.name);
            let aliases: Vec<String> = leads.map(|(alias, _)| alias.clone()).collect();
            Ok(match survey.names.contains(&retained.name) {
                false => State::Gone,
                true if aliases.is_empty() => State::Kept,
                true => State::Live { aliases },
            })
        }
        Kind::Snapshot { collection } => {
            let listed = client.list_snapshots(collection).await?;
            let there = listed.iter().any(|snapshot| snapshot.name == retained.name);
            Ok(if there { State::Kept } else { State::Gone })
        }
    }
}

/// For people.
pub fn text(entries: &[Entry]) -> String {
    let mut text = String::new();
    for Entry { retained, at, state } in entries {
        let points =
            retained.points.map_or(String::new(), |points| format!(", {} points", thousands(points)));
        let version = retained.version.map_or(String::new(), |version| format!(", version {version}"));
        let kind = match &retained.kind {
            Kind::Collection => "collection".into(),
            Kind::Snapshot { collection } => format!("snapshot in {collection}"),
        };
        let state = match state {
            State::Live { aliases } => format!(", live as {}", aliases.join(", ")),
            State::Kept | State::Gone => String::new(),
        };
        let _ = writeln!(
            text,
            "{}  {kind} of {}{points}{version}, since {at}{state}",
            retained.name, retained.of
        );
    }
    if text.is_empty() {
        text.push_str("Nothing is kept\n");
    }
    text
}

/// Removes one thing by its exact name, under the lock of the collection it belongs to.
///
/// # Errors
/// It is not in the journal, applications reach it, or the live collection has fewer points than it, unless `fewer` allows
/// that.
pub async fn remove(
    session: &mut Session,
    store: &Store,
    client: &Client,
    name: &str,
    fewer: bool,
    patience: Option<Duration>,
) -> Result<Entry> {
    let entries = list(session, store, client).await?;
    let Some(entry) = entries.iter().find(|entry| entry.retained.name == name) else {
        let names: Vec<&str> = entries.iter().map(|entry| entry.retained.name.as_str()).collect();
        return Err(Error::new(ExitCode::Refused, format!("the journal does not have `{name}` as kept"))
            .expected(if names.is_empty() { "nothing is kept".into() } else { names.join(", ") })
            .remedy("tandem removes nothing that its journal does not name"));
    };
    let retained = &entry.retained;
    let held = lock_of(session, store, client, &retained.of, patience).await?;
    if let State::Live { aliases } = state(client, retained).await? {
        return Err(Error::new(
            ExitCode::Refused,
            format!("`{name}` is live: applications reach it as {}", aliases.join(", ")),
        )
        .expected("a collection that no alias leads to"));
    }
    match &retained.kind {
        Kind::Collection => {
            let points = client.count_points(name).await?;
            let live = match operate::find(client, &retained.of).await? {
                Some(live) if live.real != *name => Some(client.count_points(&live.real).await?),
                _ => None,
            };
            if !fewer && live.is_none_or(|live| live < points) {
                let live = live
                    .map_or("there is no other collection".into(), |n| format!("it has {}", thousands(n)));
                return Err(Error::new(
                    ExitCode::Refused,
                    format!("`{name}` has {} points, and of {} {live}", thousands(points), retained.of),
                )
                .expected("a live collection with at least as many points")
                .remedy("look at both; --fewer removes it all the same"));
            }
            held.check(session).await?;
            client.delete_collection(name).await?;
        }
        Kind::Snapshot { collection } => {
            held.check(session).await?;
            client.delete_snapshot(collection, name).await?;
        }
    }
    let sql = store.removed(retained)?;
    session.run("journalling a removal", sql).await?;
    held.release(session).await?;
    Ok(entry.clone())
}

/// The lock of the collection that a name leads to.
async fn lock_of(
    session: &mut Session,
    store: &Store,
    client: &Client,
    name: &str,
    patience: Option<Duration>,
) -> Result<Held> {
    let real = operate::find(client, name).await?.map_or_else(|| name.to_owned(), |place| place.real);
    lock::acquire(session, store, Key::Collection(real), patience).await
}

/// Where a name led and where it leads now: `tandem rollback --json`.
#[derive(Debug, Serialize)]
pub struct RolledBack {
    pub alias: String,
    pub from: String,
    pub to: String,
    /// Exact, of both.
    pub points_from: u64,
    pub points_to: u64,
    pub version: Option<Number>,
}

/// Lets an alias lead to the collection again that it led to before: the newest one in the journal that is kept for it.
/// One call; what it led to is kept in turn, so that going back is no loss either.
///
/// # Errors
/// The name is no alias, or nothing that was kept for it can serve.
pub async fn roll_back(
    session: &mut Session,
    store: &Store,
    client: &Client,
    place: &Place,
    patience: Option<Duration>,
) -> Result<RolledBack> {
    if !place.is_alias() {
        return Err(Error::new(
            ExitCode::Refused,
            format!("`{}` is a collection, and only an alias can lead back", place.name),
        )
        .expected("an alias")
        .remedy("restore its snapshot with tandem snapshot restore --into NEW, and let the application use that name"));
    }
    let held = lock_of(session, store, client, &place.name, patience).await?;
    let live = operate::existing(client, &place.name).await?.real;
    let kept = list(session, store, client).await?.into_iter().rev();
    let mut kept = kept.filter(|entry| entry.state == State::Kept).map(|entry| entry.retained);
    let led_to = kept.find(|r| r.kind == Kind::Collection && r.of == place.name && r.points.is_some());
    let Some(Retained { name: back, points: Some(recorded), .. }) = led_to else {
        return Err(Error::new(
            ExitCode::Refused,
            format!("nothing is kept that {} led to before", place.name),
        )
        .expected("a collection in tandem retained list")
        .remedy("restore a snapshot: tandem snapshot restore"));
    };
    if let Some(observed) = client.inspect(&back).await? {
        no_shadow(&back, &observed)?;
        held.check(session).await?;
        client.open_fence(&back).await?;
    }
    let points = client.count_points(&back).await?;
    if points != recorded {
        return Err(Error::new(
            ExitCode::Refused,
            format!(
                "`{back}` has {} points, and had {} when it was replaced",
                thousands(points),
                thousands(recorded)
            ),
        )
        .expected("a collection as it was")
        .remedy("find out what changed it; a snapshot restores it beside: tandem snapshot restore"));
    }
    let now = Retained {
        name: live.clone(),
        kind: Kind::Collection,
        of: place.name.clone(),
        points: Some(client.count_points(&live).await?),
        version: stamped(client, &live).await?,
    };
    session.run("journalling what is kept", store.retain(&now)?).await?;
    held.check(session).await?;
    client.set_alias(&place.name, &back).await?;
    held.release(session).await?;
    Ok(RolledBack {
        alias: place.name.clone(),
        points_from: now.points.unwrap_or_default(),
        from: live,
        points_to: points,
        version: stamped(client, &back).await?,
        to: back,
    })
}

/// Notes in the journal what a stage of a rebuild is about to make or to leave behind.
pub async fn before(
    session: &mut Session,
    store: &Store,
    client: &Client,
    rebuild: &Rebuild,
    stage: Stage,
) -> Result<()> {
    let collection = |name: &str, points, version| Retained {
        name: name.to_owned(),
        kind: Kind::Collection,
        of: rebuild.applications_name().to_owned(),
        points,
        version,
    };
    let retained = match stage {
        Stage::Shadow => collection(&rebuild.shadow, None, None),
        // From then on it is what the alias led to before.
        Stage::SwitchAlias if client.inspect(&rebuild.source).await?.is_some() => {
            let points = client.count_points(&rebuild.source).await?;
            collection(&rebuild.source, Some(points), stamped(client, &rebuild.source).await?)
        }
        Stage::Replace => {
            let points = client.count_points(&rebuild.shadow).await?;
            collection(&rebuild.shadow, Some(points), Some(rebuild.stamp.version))
        }
        _ => return Ok(()),
    };
    session.run("journalling what is kept", store.retain(&retained)?).await.map(drop)
}

/// Notes the snapshots that a stage of a rebuild took: their names are the server's.
pub async fn after(
    session: &mut Session,
    store: &Store,
    client: &Client,
    rebuild: &Rebuild,
    stage: Stage,
) -> Result<()> {
    let collection = match stage {
        Stage::Copy => &rebuild.source,
        Stage::Replace => &rebuild.shadow,
        _ => return Ok(()),
    };
    let Some(snapshot) = client.list_snapshots(collection).await?.pop() else { return Ok(()) };
    let retained = Retained {
        name: snapshot.name,
        kind: Kind::Snapshot { collection: collection.clone() },
        of: rebuild.applications_name().to_owned(),
        points: None,
        version: None,
    };
    session.run("journalling what is kept", store.retain(&retained)?).await.map(drop)
}

/// The version of a live collection's stamp.
pub async fn stamped(client: &Client, collection: &str) -> Result<Option<Number>> {
    Ok(client.inspect(collection).await?.and_then(|observed| observed.live_version()))
}

impl RolledBack {
    /// For people.
    pub fn text(&self) -> String {
        let version = self.version.map_or("no version".into(), |version| format!("version {version}"));
        format!(
            "{} leads to {} again: {} points, {version}\n{} is kept, with {} points\n",
            self.alias,
            self.to,
            thousands(self.points_to),
            self.from,
            thousands(self.points_from)
        )
    }
}
