//! What an operator asks of one collection: snapshots taken, listed, downloaded and restored, a collection held against
//! its declaration, and what a rebuild of it would be.

use crate::collection::{
    self, Change, Due, Kind, Observed, Role, SHADOW_PREFIX, Schema, ServerVersion, Stamp, Status,
};
use crate::error::{Error, ExitCode, Result};
use crate::progress::{Meter, bytes};
use crate::qdrant::{Client, Snapshot};
use crate::timeline::{CollectionDeclaration, Number, Timeline};
use crate::words::thousands;
use serde::Serialize;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A collection by the name that was typed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Place {
    /// As it was typed: a real name or an alias.
    pub name: String,
    /// Where aliases lead.
    pub real: String,
}

impl Place {
    /// Is the name an alias?
    pub fn is_alias(&self) -> bool {
        self.name != self.real
    }
}

/// Looks a name up among real names and aliases; `None` if it is neither.
pub async fn find(client: &Client, name: &str) -> Result<Option<Place>> {
    let survey = client.survey(&[]).await?;
    let real = survey.aliases.get(name).or_else(|| survey.names.get(name));
    Ok(real.map(|real| Place { name: name.to_owned(), real: real.clone() }))
}

/// The same, where nothing can be done without.
pub async fn existing(client: &Client, name: &str) -> Result<Place> {
    find(client, name).await?.ok_or_else(|| {
        Error::new(ExitCode::StepFailed, format!("Qdrant has no collection and no alias `{name}`"))
            .remedy("check the name, and the server with tandem config")
    })
}

/// A snapshot of a collection by its name, or the newest.
pub async fn snapshot(client: &Client, place: &Place, name: Option<&str>) -> Result<Snapshot> {
    let mut snapshots = client.list_snapshots(&place.real).await?;
    let names = snapshots.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
    let found = match name {
        None => snapshots.pop(),
        Some(name) => snapshots.into_iter().find(|snapshot| snapshot.name == name),
    };
    found.ok_or_else(|| {
        let which = name.map_or("any snapshot".into(), |name| format!("the snapshot {name}"));
        Error::new(ExitCode::StepFailed, format!("collection {} does not have {which}", place.real))
            .expected(if names.is_empty() { "one taken with tandem snapshot create".into() } else { names })
            .remedy("tandem snapshot list shows them")
    })
}

/// A snapshot on this machine.
#[derive(Debug, Serialize)]
pub struct Downloaded {
    pub file: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Hex SHA-256, compared with the server's.
    pub checksum: String,
}

/// Downloads into a file that did not exist; until it is whole and proven, it has `.part` behind its name.
pub async fn download(
    client: &Client,
    place: &Place,
    snapshot: &Snapshot,
    to: &Path,
    meter: &Meter,
) -> Result<Downloaded> {
    let file = if to.is_dir() { to.join(&snapshot.name) } else { to.to_owned() };
    let failed = |path: &Path, e: std::io::Error| {
        Error::new(ExitCode::StepFailed, format!("{} cannot be written: {e}", path.display()))
            .remedy("name another file with --to")
    };
    if file.exists() {
        return Err(failed(&file, std::io::ErrorKind::AlreadyExists.into()));
    }
    let mut part = file.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let mut out = File::create(&part).map_err(|e| failed(&part, e))?;
    let mut size = 0;
    let write = |bytes: &[u8]| {
        size += bytes.len() as u64;
        out.write_all(bytes)
    };
    let checksum = match client.download_snapshot(&place.real, snapshot, meter, write).await {
        Ok(checksum) => checksum,
        Err(error) => {
            // What is left of it is worthless, and that it stays is no second failure.
            let _ = std::fs::remove_file(&part);
            return Err(error);
        }
    };
    meter.end();
    out.sync_all().and_then(|()| std::fs::rename(&part, &file)).map_err(|e| failed(&file, e))?;
    Ok(Downloaded { file, size, checksum })
}

/// Where a snapshot to restore comes from.
pub enum Origin<'a> {
    /// This server, which keeps it for a collection.
    Kept(&'a Place, Snapshot),
    File(&'a Path),
}

/// A collection that a snapshot became.
#[derive(Debug, Serialize)]
pub struct Restored {
    /// The new collection.
    pub collection: String,
    /// Exact.
    pub points: u64,
    /// The version of its stamp.
    pub version: Option<Number>,
    /// The alias that leads to it now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// What the alias led to before. It is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced: Option<String>,
}

/// A name that no collection and no alias has, and that no pattern matches.
pub async fn fresh_name(client: &Client, collection: &str) -> Result<String> {
    let survey = client.survey(&[]).await?;
    let taken = |name: &String| survey.names.contains(name) || survey.aliases.contains_key(name);
    let names = (1..).map(|n: u32| format!("{SHADOW_PREFIX}restored_{collection}_{n}"));
    names
        .into_iter()
        .find(|name| !taken(name))
        .ok_or_else(|| Error::new(ExitCode::Bug, format!("no name is free for a copy of {collection}")))
}

/// Restores a snapshot as a collection that does not exist yet, and proves that it can be read and counted.
pub async fn restore(
    client: &Client,
    origin: &Origin<'_>,
    into: &str,
    checksum: Option<&str>,
    meter: &Meter,
) -> Result<Restored> {
    if let Some(there) = find(client, into).await? {
        let what = if there.is_alias() { "an alias" } else { "a collection" };
        return Err(Error::new(ExitCode::Refused, format!("`{into}` is {what} already"))
            .expected("a name that is free: a restore that fails destroys the collection under it")
            .remedy("choose another name with --into"));
    }
    match origin {
        Origin::Kept(place, snapshot) => {
            client.restore_snapshot(&place.real, snapshot, into, meter).await?;
        }
        Origin::File(path) => {
            let unreadable = |e: std::io::Error| {
                Error::new(ExitCode::StepFailed, format!("{} cannot be read: {e}", path.display()))
            };
            let file = File::open(path).map_err(unreadable)?;
            let size = file.metadata().map_err(unreadable)?.len();
            client.upload_snapshot(file, size, checksum, into, meter).await?;
        }
    }
    meter.end();
    let observed = client.inspect(into).await?.ok_or_else(|| {
        Error::new(ExitCode::StepFailed, format!("the server restored `{into}` and does not have it"))
            .remedy("look at the server's log")
    })?;
    if observed.status == Status::Red {
        let why = observed.optimizer_error.unwrap_or_else(|| "no reason given".into());
        return Err(Error::new(
            ExitCode::StepFailed,
            format!("the restored collection `{into}` is red: {why}"),
        )
        .expected("a collection without an optimizer error"));
    }
    // Nothing tells whether the shadow was whole when its snapshot was taken.
    collection::no_shadow(into, &observed).map_err(|error| {
        error
            .at(format_args!("the snapshot was restored, and `{into}` is no collection to use"))
            .remedy("restore a snapshot of the collection itself; a start resumes the rebuild")
    })?;
    client.unmark(into).await?;
    Ok(Restored {
        collection: into.to_owned(),
        points: client.count_points(into).await?,
        version: observed.live_version(),
        alias: None,
        replaced: None,
    })
}

impl Restored {
    /// For people.
    pub fn text(&self) -> String {
        let stamp =
            self.version.map_or("not stamped".into(), |version| format!("stamped at version {version}"));
        let mut text = format!("Restored {}: {} points, {stamp}\n", self.collection, thousands(self.points));
        if let (Some(alias), Some(replaced)) = (&self.alias, &self.replaced) {
            let _ = writeln!(text, "The alias {alias} leads to it now; {replaced} is kept");
        }
        text
    }
}

/// The list of snapshots for people, oldest first. The names have the time.
pub fn snapshots_text(snapshots: &[Snapshot]) -> String {
    let width = snapshots.iter().map(|snapshot| snapshot.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Snapshot { name, size, checksum, .. } in snapshots {
        let checksum = checksum.as_deref().unwrap_or("no checksum");
        let _ = writeln!(text, "{name:width$}  {:>10}  {checksum}", bytes(*size));
    }
    text
}

/// A collection held against its declaration: `tandem validate --json`.
#[derive(Debug, Serialize)]
pub struct Validation {
    #[serde(flatten)]
    pub place: Place,
    /// Nothing differs and no fill is due.
    pub valid: bool,
    pub server: ServerVersion,
    /// The version whose declaration it was held against.
    pub version: Number,
    /// `None` if there is no such collection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<FoundCollection>,
    pub differences: Vec<Finding>,
    /// Fills of the versions since the stamp.
    pub fills: Vec<String>,
}

/// What was found of a collection that exists.
#[derive(Debug, Serialize)]
pub struct FoundCollection {
    /// Exact.
    pub points: u64,
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
    /// Vectors and payload indexes that the declaration does not name, and that stay.
    pub undeclared: Vec<String>,
}

/// One difference for machines.
#[derive(Debug, PartialEq, Serialize)]
pub struct Finding {
    /// `vectors.content.size`
    pub path: String,
    /// In words.
    pub difference: String,
    pub takes: Takes,
    /// Why it takes that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// What removes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Takes {
    InPlace,
    Rebuild,
    NewVectors,
    NewerServer,
}

impl From<&Change> for Finding {
    fn from(change: &Change) -> Self {
        let (takes, reason, remedy) = match &change.kind {
            Kind::InPlace => (Takes::InPlace, None, None),
            Kind::Rebuild(reason) => (Takes::Rebuild, Some(reason.clone()), None),
            Kind::Impossible { reason, remedy } => {
                (Takes::NewVectors, Some(reason.clone()), Some(remedy.clone()))
            }
            Kind::NeedsServer { since, .. } => {
                (Takes::NewerServer, Some(format!("servers before {since} do not know it")), None)
            }
        };
        Self { path: change.path.join("."), difference: change.difference.clone(), takes, reason, remedy }
    }
}

/// The declaration that covers a collection at the head of the timeline.
pub fn declaration<'a>(timeline: &'a Timeline, place: &Place) -> Result<(&'a CollectionDeclaration, Number)> {
    let head = timeline.head().map_or(0, |version| version.number);
    let declared = timeline.collections_at(head);
    let covers = |d: &&CollectionDeclaration| d.matches(&place.name) || d.matches(&place.real);
    declared.iter().find(covers).map(|declaration| (declaration, head)).ok_or_else(|| {
        let matches: Vec<&str> = declared.iter().map(|d| d.matching.as_str()).collect();
        Error::new(
            ExitCode::StepFailed,
            format!("no [[collection]] of version {head} matches `{}`", place.name),
        )
        .expected(if matches.is_empty() { "a declared collection".into() } else { matches.join(", ") })
        .remedy("check the name and the variables that the declarations use")
    })
}

/// Holds what was observed against a declaration.
pub fn validate(
    place: Place,
    observed: Option<(&Observed, u64)>,
    declaration: &CollectionDeclaration,
    timeline: &Timeline,
    version: Number,
    server: ServerVersion,
) -> Validation {
    let Some((observed, points)) = observed else {
        let differences = vec![Finding {
            path: String::new(),
            difference: "there is no such collection".into(),
            takes: Takes::InPlace,
            reason: None,
            remedy: None,
        }];
        return Validation {
            place,
            valid: false,
            server,
            version,
            found: None,
            differences,
            fills: Vec::new(),
        };
    };
    let changes = collection::compare(&declaration.schema, observed, declaration.undeclared, server);
    let fenced = observed.fence.as_ref().map(|_| Finding {
        path: "strict_mode_config".into(),
        difference: "fenced off: it refuses writes until a rebuild has switched or stopped".into(),
        takes: Takes::InPlace,
        reason: None,
        remedy: Some("if no run is at work, start one: it lets writers in again or goes on".into()),
    });
    let differences: Vec<Finding> = fenced.into_iter().chain(changes.iter().map(Finding::from)).collect();
    let fills: Vec<String> =
        due(timeline, declaration, observed, version).iter().map(ToString::to_string).collect();
    let live = observed.stamp.as_ref().is_none_or(|stamp| stamp.role == Role::Live);
    Validation {
        place,
        valid: differences.is_empty() && fills.is_empty() && live && observed.status != Status::Red,
        server,
        version,
        found: Some(FoundCollection {
            points,
            status: observed.status,
            optimizer_error: observed.optimizer_error.clone(),
            stamp: observed.stamp.clone(),
            undeclared: undeclared(&declaration.schema, &observed.schema),
        }),
        differences,
        fills,
    }
}

fn due(
    timeline: &Timeline,
    declaration: &CollectionDeclaration,
    observed: &Observed,
    to: Number,
) -> Vec<Due> {
    match observed.points {
        0 => Vec::new(),
        _ => {
            let from = observed.live_version().unwrap_or_default();
            collection::due(timeline, declaration, from, to)
        }
    }
}

fn undeclared(declared: &Schema, actual: &Schema) -> Vec<String> {
    let dense = actual.vectors.keys().filter(|name| !declared.vectors.contains_key(*name));
    let sparse = actual.sparse_vectors.keys().filter(|name| !declared.sparse_vectors.contains_key(*name));
    let indexes = actual.payload_indexes.keys().filter(|key| !declared.payload_indexes.contains_key(*key));
    dense
        .map(|name| format!("vectors.{name}"))
        .chain(sparse.map(|name| format!("sparse_vectors.{name}")))
        .chain(indexes.map(|key| format!("payload_indexes.{key}")))
        .collect()
}

impl Validation {
    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("Collection {}", self.place.name);
        if self.place.is_alias() {
            let _ = write!(text, " (alias of {})", self.place.real);
        }
        match &self.found {
            None => text.push_str(": absent\n"),
            Some(found) => {
                let stamp = match &found.stamp {
                    None => "not stamped".into(),
                    Some(Stamp { role: Role::Shadow { source, .. }, .. }) => {
                        format!("the shadow of {source}")
                    }
                    Some(stamp) => format!("stamped at version {}", stamp.version),
                };
                let status = format!("{:?}", found.status).to_lowercase();
                let _ = writeln!(text, ": {} points, {status}, {stamp}", thousands(found.points));
                if let Some(error) = &found.optimizer_error {
                    let _ = writeln!(text, "  optimizer: {error}");
                }
            }
        }
        for finding in self.differences.iter().filter(|finding| !finding.path.is_empty()) {
            let takes = match finding.takes {
                Takes::InPlace => "in place",
                Takes::Rebuild => "needs a rebuild",
                Takes::NewVectors => "needs new vectors",
                Takes::NewerServer => "needs a newer server",
            };
            let _ = write!(text, "  {}: {} ({takes}", finding.path, finding.difference);
            text.push_str(&finding.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}")));
            text.push_str(")\n");
        }
        for fill in &self.fills {
            let _ = writeln!(text, "  {fill}");
        }
        if let Some(found) = &self.found
            && !found.undeclared.is_empty()
        {
            let _ = writeln!(text, "  not declared, and kept: {}", found.undeclared.join(", "));
        }
        let verdict = if self.valid { "It is as declared" } else { "It is not as declared" };
        let _ = writeln!(text, "{verdict} at version {} (server {})", self.version, self.server);
        text
    }
}

/// What a rebuild of a collection would be: `tandem rebuild --dry-run --json`.
#[derive(Debug, Serialize)]
pub struct RebuildPlan {
    #[serde(flatten)]
    pub place: Place,
    /// Why; empty if none is needed.
    pub reasons: Vec<String>,
    /// What stands in its way.
    pub obstacles: Vec<String>,
    /// Exact.
    pub points: u64,
    /// The vectors of the source and of the shadow, uncompressed and without indexes, in bytes. Payloads come on top: no
    /// call tells their size.
    pub vector_bytes: u64,
    /// How the shadow takes the source's place.
    pub switch: &'static str,
    /// What becomes of writers meanwhile.
    pub writers: &'static str,
    pub phases: Vec<&'static str>,
    pub fills: Vec<String>,
}

/// Plans a rebuild, in words.
pub fn rebuild_plan(
    place: Place,
    (observed, points): (&Observed, u64),
    declaration: &CollectionDeclaration,
    timeline: &Timeline,
    version: Number,
    server: ServerVersion,
) -> RebuildPlan {
    let changes = collection::compare(&declaration.schema, observed, declaration.undeclared, server);
    let of = |wanted: fn(&Kind) -> bool| {
        changes.iter().filter(move |change| wanted(&change.kind)).map(ToString::to_string).collect::<Vec<_>>()
    };
    let reasons = of(|kind| matches!(kind, Kind::Rebuild(_)));
    let mut obstacles = of(|kind| matches!(kind, Kind::Impossible { .. } | Kind::NeedsServer { .. }));
    let due = collection::effective(due(timeline, declaration, observed, version), observed);
    if !reasons.is_empty()
        && let Err(error) = collection::copyable(&place.real, observed, declaration, &due)
    {
        obstacles.push(error.to_string());
    }
    // As a start decides it: whoever uses the real name goes on to do so.
    let alias = !declaration.matches(&place.real);
    RebuildPlan {
        reasons,
        obstacles,
        points,
        vector_bytes: points.saturating_mul(point_bytes(&observed.schema) + point_bytes(&declaration.schema)),
        switch: match alias {
            true => "the alias leads to the shadow, in one call",
            false => {
                "the shadow is verified, then takes the name: the collection is absent for a moment, so no application may run"
            }
        },
        writers: match alias {
            true => {
                "one that is found before the last comparison stops the rebuild; from then to the switch a fence (strict mode) refuses what is written; with --allow-writers they go on, and what they wrote last is swept up"
            }
            false => {
                "one that is found before the last comparison stops the rebuild; from then on a fence (strict mode) refuses what is written, until the collection is gone"
            }
        },
        phases: vec![
            "preflight",
            "snapshot",
            "shadow",
            "payload indexes",
            "copy",
            "verify",
            "finalize",
            "fence",
            "verify again",
            "switch",
            "stamp",
            "retain",
        ],
        fills: due.iter().map(ToString::to_string).collect(),
        place,
    }
}

/// Bytes of the dense vectors of one point, a list counted as one.
fn point_bytes(schema: &Schema) -> u64 {
    use collection::Datatype;
    let bytes = |params: &collection::VectorParams| {
        let each = match params.datatype {
            Some(Datatype::Float16 | Datatype::Turbo16) => 2,
            Some(Datatype::Uint8 | Datatype::Turbo8 | Datatype::Turbo4) => 1,
            _ => 4,
        };
        params.size.unwrap_or_default() * each
    };
    schema.vectors.values().map(bytes).sum()
}

impl RebuildPlan {
    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "Collection {}: {} points, about {} of vectors in source and shadow together\n",
            self.place.name,
            thousands(self.points),
            bytes(self.vector_bytes)
        );
        if self.reasons.is_empty() && self.obstacles.is_empty() {
            text.push_str("No rebuild is needed: what differs is changed in place\n");
        }
        for reason in &self.reasons {
            let _ = writeln!(text, "  {reason}");
        }
        for obstacle in &self.obstacles {
            let _ = writeln!(text, "  in the way: {obstacle}");
        }
        for fill in &self.fills {
            let _ = writeln!(text, "  during the copy: {fill}");
        }
        if !self.reasons.is_empty() {
            let _ = writeln!(text, "Phases: {}\nSwitch: {}", self.phases.join(" → "), self.switch);
            let _ = writeln!(text, "Writers: {}", self.writers);
            text.push_str(
                "Free disk it needs: about three times the collection's size on disk (source, shadow, snapshot), and once more while the server optimizes\n",
            );
        }
        text
    }
}
