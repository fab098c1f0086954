//! Reading both stores, without a lock and without a write, until there is a verdict and a plan.

use crate::adoption::{Foreign, mirror};
use crate::catalog::render::{complete_beside, relation};
use crate::catalog::{Catalog, Expected, ObjectId};
use crate::collection::{self, Observed, Role, SHADOW_PREFIX, ServerVersion, Stamp};
use crate::config::Complete;
use crate::error::{Error, ExitCode, Result};
use crate::ledger::{self, Ledger, Standing};
use crate::plan::{self, CollectionPlan, Plan};
use crate::postgres::adoption as foreign;
use crate::postgres::introspect::{self, Exclude, Known};
use crate::postgres::session::{Session, begin_read_only, cell, search_path};
use crate::postgres::store::{Fast, Store};
use crate::postgres::{apply, bodies, detector};
use crate::qdrant;
use crate::repair::{self, Action, Obstacle};
use crate::timeline::lint;
use crate::timeline::{CHECKSUM_ALGORITHM, CollectionDeclaration, Number, Timeline, Version};
use crate::upgrade;
use crate::verdict::{self, Seen};
use backon::BackoffBuilder as _;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

/// The two stores, logged in and answering.
pub struct Stores {
    pub session: Session,
    /// Absent in a deployment without Qdrant.
    pub qdrant: Option<qdrant::Client>,
}

/// What an inspection needs to know besides the stores.
pub struct Subject<'a> {
    pub timeline: &'a Timeline,
    pub store: &'a Store,
    pub exclude: &'a Exclude<'a>,
    /// Patterns may expand to collections that nobody named.
    pub all_collections: bool,
    /// A first installation may go beside objects that nobody explains.
    pub install_beside: bool,
    /// What is done about objects that are missing and can be added.
    pub complete: Complete,
    /// The operator resolves skewed collections: their stamps and their loss are not held against them.
    pub adopt: bool,
    /// Applications may go on writing to a collection behind an alias while it is rebuilt.
    pub allow_writers: bool,
    /// How long a look waits for somebody who keeps even readers out of a table; `None` is no limit.
    pub lock_patience: Option<Duration>,
    /// The target was asked for by name: a ledger that is beyond it is not at it, though it may let this image start.
    pub exactly: bool,
}

/// One managed collection as it was found.
pub struct Found<'a> {
    /// The real name, or the name that an `ensure` asks for.
    pub name: String,
    pub declaration: &'a CollectionDeclaration,
    /// `None` if it is absent and to be created.
    pub observed: Option<Observed>,
    /// All collections whose stamps call them shadows of this one.
    pub shadows: Vec<Observed>,
}

/// The managed collections as they were found.
#[derive(Default)]
pub struct Survey<'a> {
    /// Absent in a deployment without Qdrant.
    pub server: Option<ServerVersion>,
    /// The real names of all collections.
    pub names: BTreeSet<String>,
    pub found: Vec<Found<'a>>,
}

/// Everything that an inspection finds.
pub struct Inspection<'a> {
    pub verdict: verdict::Postgres,
    pub ledger: Option<Ledger>,
    pub catalog: Catalog,
    /// The ledgers of other tools.
    pub foreign: Vec<Foreign>,
    /// What is in the way of the versions to come.
    pub obstacles: Vec<Obstacle>,
    /// The statements that complete what is missing, before any version is run.
    pub completing: Vec<String>,
    /// What the versions to come break without being stopped by it.
    pub warnings: Vec<String>,
    /// The change detector, from the snapshot that the catalog was read in.
    pub detector: String,
    pub survey: Survey<'a>,
    /// Versions without a ledger row whose files are no longer those that were recorded.
    pub unrecorded: Vec<Number>,
}

/// Is everything at head, on the evidence of the change detector and of every managed collection?
///
/// One message to Postgres and one round of calls to Qdrant, side by side. `false` means "look closer", nothing else.
pub async fn at_head(stores: &mut Stores, subject: &Subject<'_>) -> Result<bool> {
    let timeline = subject.timeline;
    let Some(head) = timeline.head().map(|v| v.number) else { return Ok(false) };
    let detector = detector::detector_sql(&timeline.settings.schemas, subject.exclude);
    let names = ensured_names(timeline, head);
    let (fast, survey) = tokio::join!(
        subject.store.fast(&mut stores.session, &detector, &names),
        survey(stores.qdrant.as_ref(), timeline.collections_at(head), subject.all_collections)
    );
    let Some(fast) = fast? else { return Ok(false) };
    let survey = survey?;
    if !fast.unchanged || fast.open || fast.at != Some(head) || fast.digest != digest(timeline) {
        return Ok(false);
    }
    Ok(survey.found.iter().all(|found| collection_at_head(found, &fast, head, survey.server)))
}

fn collection_at_head(found: &Found<'_>, fast: &Fast, head: Number, server: Option<ServerVersion>) -> bool {
    let (Some(observed), Some(server)) = (&found.observed, server) else { return false };
    let Some(stamp) = &observed.stamp else { return false };
    let published = fast.published.iter().any(|(name, version)| *name == found.name && *version == head);
    published
        && observed.fence.is_none()
        && collection::kept_behind_a_fence(&found.shadows).next().is_none()
        && stamp.lineage == fast.lineage
        && stamp.version == head
        && stamp.role == Role::Live
        && collection::compare(&found.declaration.schema, observed, found.declaration.undeclared, server)
            .is_empty()
}

/// The digest that the ledger's rows must have if they are exactly this timeline.
pub fn digest(timeline: &Timeline) -> String {
    let checksums: Vec<(Number, String)> =
        timeline.versions.iter().map(|v| (v.number, v.raw_checksum())).collect();
    ledger::digest(checksums.iter().map(|(number, checksum)| (*number, checksum.as_str())))
}

/// The names that this instance manages as they are declared; another instance's collections are not its concern.
pub fn ensured_names(timeline: &Timeline, at: Number) -> Vec<String> {
    timeline.collections_at(at).iter().flat_map(|c| c.ensure.iter().cloned()).collect()
}

/// Looks at every managed collection.
pub async fn survey<'a>(
    client: Option<&qdrant::Client>,
    declarations: &'a [CollectionDeclaration],
    all_collections: bool,
) -> Result<Survey<'a>> {
    let Some(client) = client else { return Ok(Survey::default()) };
    let exact = declarations.iter().filter(|d| !d.is_pattern()).map(|d| &d.matching);
    let wanted: Vec<String> = declarations.iter().flat_map(|d| &d.ensure).chain(exact).cloned().collect();
    let mut seen = client.survey(&wanted).await?;
    let mut found = Vec::new();
    for target in collection::expand(declarations, &seen.names, &seen.aliases, all_collections)? {
        let observed = match seen.collections.remove(&target.real) {
            None if target.exists => client.inspect(&target.real).await?,
            observed => observed,
        };
        if observed.is_some() || target.ensure {
            let shadows = shadows_of(client, &target.real, &seen.names).await?;
            let declaration = &declarations[target.declaration];
            found.push(Found { name: target.real, declaration, observed, shadows });
        }
    }
    Ok(Survey { server: Some(seen.server), names: seen.names, found })
}

/// The collections whose names and stamps call them shadows of another.
async fn shadows_of(client: &qdrant::Client, real: &str, names: &BTreeSet<String>) -> Result<Vec<Observed>> {
    let prefix = format!("{SHADOW_PREFIX}{real}_");
    let mut shadows = Vec::new();
    for name in names.iter().filter(|name| name.starts_with(&prefix)) {
        let Some(observed) = client.inspect(name).await? else { continue };
        let role = observed.stamp.as_ref().map(|stamp| &stamp.role);
        if matches!(role, Some(Role::Shadow { source, .. }) if source == real) {
            shadows.push(observed);
        }
    }
    Ok(shadows)
}

/// Reads everything and judges it, in one read-only transaction on Postgres.
pub async fn inspect<'a>(
    stores: &mut Stores,
    subject: &Subject<'a>,
    expected: &Expected,
) -> Result<Inspection<'a>> {
    inspect_again(stores, subject, expected, None).await
}

/// As [`inspect`], of a database whose catalog this run has read: while the change detector says that it is the same, it
/// is not read once more.
pub async fn inspect_again<'a>(
    stores: &mut Stores,
    subject: &Subject<'a>,
    expected: &Expected,
    mut known: Option<Known>,
) -> Result<Inspection<'a>> {
    let timeline = subject.timeline;
    let head = timeline.head().map_or(0, |v| v.number);
    let (mut seen, detector, survey) = loop {
        let (seen, detector) = read_patiently(&mut stores.session, subject, expected, known.take()).await?;
        let survey =
            survey(stores.qdrant.as_ref(), timeline.collections_at(head), subject.all_collections).await?;
        let ledger = seen.ledger.as_ref();
        let skewed = survey.found.iter().any(|found| verdict_on(found, ledger).is_skewed());
        // Another instance may have committed and stamped between the look at Postgres and the one at Qdrant.
        if !skewed || !moved(&mut stores.session, subject, ledger).await? {
            break (seen, detector, survey);
        }
        known = Some(Known { detector, catalog: seen.catalog });
    };
    // Judged as the versions tell it; what is read again later is held against what was read.
    let untold = expected.told(&seen.catalog).map(|told| std::mem::replace(&mut seen.catalog, told));
    let standing = seen.ledger.as_ref().map(|ledger| standing(ledger, timeline));
    let verdict = verdict::postgres(timeline, expected, &seen, standing);
    let coming = coming(&verdict, timeline);
    let (obstacles, completing) = ahead_of(&verdict, &seen, &coming, expected);
    let mut warnings = warnings(&mut stores.session, &coming, expected, head).await?;
    warnings.extend(repair::bodies_replaced(&seen.catalog, expected, &coming));
    let Seen { ledger, catalog, foreign, .. } = seen;
    let catalog = untold.unwrap_or(catalog);
    let applied = |number| ledger.as_ref().is_some_and(|l| l.rows.iter().any(|row| row.version == number));
    let changed = |v: &Version| expected.index.version(v.number).is_none_or(|recorded| !recorded.is_of(v));
    let unrecorded =
        timeline.versions.iter().filter(|v| !applied(v.number) && changed(v)).map(|v| v.number).collect();
    Ok(Inspection {
        verdict,
        ledger,
        catalog,
        foreign,
        obstacles,
        completing,
        warnings,
        detector,
        survey,
        unrecorded,
    })
}

/// Reads what Postgres has, in one read-only transaction; what meets a lock is tried again.
async fn read_patiently(
    session: &mut Session,
    subject: &Subject<'_>,
    expected: &Expected,
    mut known: Option<Known>,
) -> Result<(Seen, String)> {
    let timeline = subject.timeline;
    let begin = begin_read_only(&search_path(&timeline.settings.schemas));
    let (started, mut delays) = (Instant::now(), apply::lock_delays().without_max_times().build());
    let read = loop {
        session.run("opening a read-only transaction", begin.clone()).await?;
        match read(session, subject, expected, known.take()).await {
            Err(error) if error.code == ExitCode::LockTimeout => {
                session.rollback().await?;
                let mut schemas = timeline.settings.schemas.clone();
                schemas.push(timeline.settings.ledger_schema.clone());
                let blockers = apply::blockers(session, &schemas, apply::Waiting::Reading).await?;
                match delays.next() {
                    Some(delay) if subject.lock_patience.is_none_or(|limit| started.elapsed() < limit) => {
                        tracing::warn!(blockers, "The look at Postgres met a lock and is tried again");
                        tokio::time::sleep(delay).await;
                    }
                    _ => return Err(error.remedy(apply::end_them(&blockers))),
                }
            }
            result => break result?,
        }
    };
    session.run("ending the read-only transaction", "commit").await?;
    Ok(read)
}

/// Is the ledger another one than before?
async fn moved(session: &mut Session, subject: &Subject<'_>, before: Option<&Ledger>) -> Result<bool> {
    let begin = begin_read_only(&search_path(&subject.timeline.settings.schemas));
    session.run("opening a read-only transaction", begin).await?;
    let now = subject.store.read(session).await?;
    session.run("ending the read-only transaction", "commit").await?;
    Ok(now.as_ref() != before)
}

/// What the stamp of a collection says beside the ledger.
fn verdict_on(found: &Found<'_>, ledger: Option<&Ledger>) -> verdict::Collection {
    let stamp = found.observed.as_ref().map(|o| o.stamp.as_ref().map(|s| (s.lineage.as_str(), s.version)));
    let published = ledger.and_then(|l| l.published.get(&found.name)).copied();
    verdict::collection(stamp, published, ledger.map(|l| l.lineage.as_str()), ledger.map_or(0, Ledger::at))
}

/// Functions that name what the versions to come drop; asked only if they drop something.
async fn warnings(
    session: &mut Session,
    coming: &[Number],
    expected: &Expected,
    head: Number,
) -> Result<Vec<String>> {
    if coming.iter().all(|number| expected.effects.get(number).is_none_or(|e| e.removed.is_empty())) {
        return Ok(Vec::new());
    }
    let head = expected.catalog_at(head).unwrap_or_default();
    let dropped = bodies::dropped(expected, coming, &head);
    match dropped.as_slice() {
        [] => Ok(Vec::new()),
        dropped => Ok(bodies::warnings(&bodies::read(session).await?, dropped, expected)),
    }
}

/// The versions that are to be run.
fn coming(verdict: &verdict::Postgres, timeline: &Timeline) -> Vec<Number> {
    let at = match verdict {
        verdict::Postgres::Versioned { at, .. }
        | verdict::Postgres::Legacy { at, .. }
        | verdict::Postgres::Adopted { at, .. }
        | verdict::Postgres::Stale { proven: Some(at), .. } => *at,
        verdict::Postgres::Partial { repair, .. } => repair.at,
        // A first installation, if it may go beside what is there.
        verdict::Postgres::Foreign { nearest: None, .. } => 0,
        _ => return Vec::new(),
    };
    let mut coming: Vec<Number> = timeline.versions.iter().map(|v| v.number).filter(|n| *n > at).collect();
    if let verdict::Postgres::Partial { repair, .. } = verdict {
        coming.extend(repair.with(Action::Run));
    }
    coming
}

/// What stands in the way of the versions to come, and what completing will have to say.
fn ahead_of(
    verdict: &verdict::Postgres,
    seen: &Seen,
    coming: &[Number],
    expected: &Expected,
) -> (Vec<Obstacle>, Vec<String>) {
    let mut completing = Vec::new();
    if let verdict::Postgres::Partial { repair, .. } = verdict {
        let missing = repair.with(Action::Complete).flat_map(|number| {
            let wanted = repair::wanted(number, &seen.catalog, expected, &repair.actions);
            complete_beside(&seen.catalog, &wanted, &repair.reshaped).statements
        });
        completing.extend(missing.map(|statement| statement.sql));
        if repair.with(Action::Run).next().is_none() {
            let required = repair::required(repair.at, &seen.catalog, expected);
            let whole = complete_beside(&seen.catalog, &required, &repair.reshaped).statements;
            completing = whole.into_iter().map(|statement| statement.sql).collect();
        }
    }
    (repair::in_the_way(&seen.catalog, expected, coming), completing)
}

async fn read(
    session: &mut Session,
    subject: &Subject<'_>,
    expected: &Expected,
    known: Option<Known>,
) -> Result<(Seen, String)> {
    let timeline = subject.timeline;
    let ledger = subject.store.read(session).await?;
    let others = match subject.store.tables_exist(session).await? {
        true => subject.store.other_catalogs(session).await?,
        false => Vec::new(),
    };
    let others = others.iter().filter_map(|text| Catalog::from_json(text).ok()).collect();
    let schemas = &timeline.settings.schemas;
    let still = match known {
        Some(known) if detector::read(session, schemas, subject.exclude).await? == known.detector => {
            Some(known)
        }
        _ => None,
    };
    let Known { detector, catalog } = match still {
        Some(known) => known,
        None => introspect::introspect_known(session.connection(), schemas, subject.exclude).await?,
    };
    let foreign = foreign::read(session, &timeline.settings).await?;
    let (mut proofs, mut empty) = (BTreeMap::new(), BTreeSet::new());
    let at = ledger.as_ref().map_or(0, Ledger::at);
    let difference = expected.compare(&catalog, at);
    let proven = at > 0 && difference.is_proof() && difference.extra.is_empty();
    if !proven && !catalog.objects.is_empty() {
        for version in timeline.versions.iter().filter(|v| expected.index.version(v.number).is_some()) {
            if let Some(proof) = &version.proof {
                proofs.insert(version.number, ask(session, version, proof).await?);
            }
        }
        for table in repair::in_another_form(&catalog, expected) {
            if is_empty(session, &table).await? {
                empty.insert(table);
            }
        }
    }
    Ok((Seen { catalog, ledger, proofs, others, foreign, empty }, detector))
}

/// Does a table hold no row? One that may not be read is taken to hold some.
async fn is_empty(session: &mut Session, table: &ObjectId) -> Result<bool> {
    session.run("setting a savepoint", "savepoint empty").await?;
    match session.batch(format!("select not exists (select from {})", relation(table))).await {
        Ok(rows) => {
            session.run("releasing a savepoint", "release savepoint empty").await?;
            cell(&rows, 0, 0)
        }
        Err(failure) if failure.lost || failure.is_lock_timeout() => {
            Err(failure.into_error("looking for rows"))
        }
        Err(_) => {
            session.run("going back to a savepoint", "rollback to savepoint empty").await.map(|_| false)
        }
    }
}

/// A proof on a database that may lack the tables it reads: an error of the server means that it does not hold, unless it
/// may not be asked.
async fn ask(session: &mut Session, version: &Version, proof: &str) -> Result<bool> {
    session.run("setting a savepoint", "savepoint proof").await?;
    let doing = format!("asking the [proof] of version {}", version.number);
    match session.batch(proof.to_owned()).await {
        Ok(rows) => {
            session.run("releasing a savepoint", "release savepoint proof").await?;
            Ok(cell::<Option<bool>>(&rows, 0, 0)?.unwrap_or(false))
        }
        Err(failure) if failure.lost || failure.is_lock_timeout() => Err(failure.into_error(&doing)),
        Err(failure) if failure.code.as_deref() == Some("42501") => {
            Err(failure.into_error(&doing).expected("a role that may see every row that the proof is about"))
        }
        Err(_) => {
            session.run("going back to a savepoint", "rollback to savepoint proof").await.map(|_| false)
        }
    }
}

/// How the ledger's rows stand to the timeline.
pub fn standing(ledger: &Ledger, timeline: &Timeline) -> Standing {
    ledger::standing(
        &ledger.rows,
        timeline,
        CHECKSUM_ALGORITHM,
        Version::normal_checksum,
        Version::raw_checksum,
    )
}

impl<'a> Inspection<'a> {
    /// What is left of it for another look at the same database.
    pub fn known(self) -> Known {
        Known { detector: self.detector, catalog: self.catalog }
    }

    /// The plan for what was found, or the refusal.
    pub fn plan(&self, subject: &Subject<'_>) -> Result<Plan> {
        let mut plan = plan::postgres(subject.timeline, &self.verdict, subject.install_beside)?;
        if plan.ahead && subject.exactly {
            return Err(upgrade::beyond(plan.target, subject.timeline.head().map_or(0, |v| v.number)));
        }
        self.recorded(subject, |number| plan.runs(number) || plan.stamp.contains(&number))?;
        plan::unblocked(&plan, &self.obstacles)?;
        plan.create_ledger &= self.ledger.is_none();
        plan.complete.clone_from(&self.completing);
        plan.warnings.clone_from(&self.warnings);
        if !plan.postgres_is_empty() && !plan.ahead {
            mirror(subject.timeline, &self.foreign, plan.target)?;
        }
        if subject.complete == Complete::Never && !plan.complete.is_empty() {
            return Err(plan::incomplete(&plan, &[]));
        }
        // A run that led an alias to a shadow is journalled under the name that it led to before.
        let concerns = |collection: &str| {
            let shadow = format!("{SHADOW_PREFIX}{collection}_");
            self.survey.found.iter().any(|f| f.name == collection || f.name.starts_with(&shadow))
        };
        if let Some(ledger) = &self.ledger {
            plan.resume = ledger
                .open
                .iter()
                .filter(|run| run.collection.as_deref().is_none_or(concerns))
                .cloned()
                .collect();
        }
        for found in &self.survey.found {
            plan.collections.push(self.collection(found, &plan, subject)?);
        }
        if plan.ahead {
            plan.resume.clear();
        }
        Ok(plan)
    }

    /// The catalogs that these versions are held against must be those of the files as they are now.
    pub fn recorded(&self, subject: &Subject<'_>, pending: impl Fn(Number) -> bool) -> Result<()> {
        let changed = self.unrecorded.iter().find(|number| pending(**number));
        let Some(version) = changed.and_then(|number| subject.timeline.version(*number)) else {
            return Ok(());
        };
        // What is wrong in the file itself says more.
        lint::refuse(&lint::lint(subject.timeline, |number| number == version.number))?;
        let file = version.up.as_ref().map(|up| &up.path).or(version.toml.as_ref().map(|toml| &toml.path));
        Err(Error::new(
            ExitCode::BadTimeline,
            format!(
                "{}: version {} ({}) was changed after its catalog was recorded",
                file.map_or("", String::as_str),
                version.number,
                version.name
            ),
        )
        .expected("the statements whose effects the recorded catalog shows")
        .remedy("tandem record, and commit what it writes; or put the file back as it was"))
    }

    /// What one collection needs.
    pub fn collection(
        &self,
        found: &Found<'_>,
        plan: &Plan,
        subject: &Subject<'_>,
    ) -> Result<CollectionPlan> {
        let ledger = self.ledger.as_ref();
        let published = ledger.and_then(|l| l.published.get(&found.name)).copied();
        let lineage = ledger.map(|l| l.lineage.as_str());
        let at = ledger.map_or(0, Ledger::at);
        let verdict = verdict_on(found, ledger);
        let Some(server) = self.survey.server else {
            return Err(Error::new(ExitCode::Bug, "a collection was found without a Qdrant server"));
        };
        // Before the ledger exists there is no lineage yet; the plan is made again once it does.
        let stamp = Stamp {
            lineage: lineage.unwrap_or_default().to_owned(),
            timeline: subject.timeline.settings.application.clone(),
            version: plan.target,
            epoch: ledger.map_or(0, |l| l.epoch),
            role: Role::Live,
        };
        let from = found.observed.as_ref().and_then(Observed::live_version).unwrap_or_default();
        let due = match &found.observed {
            Some(observed) if observed.points > 0 => collection::effective(
                collection::due(subject.timeline, found.declaration, from, plan.target),
                observed,
            ),
            _ => Vec::new(),
        };
        let rebuild = match plan.ahead {
            true => None,
            false => collection::rebuild(collection::RebuildSubject {
                name: &found.name,
                observed: found.observed.as_ref(),
                shadows: &found.shadows,
                names: &self.survey.names,
                declaration: found.declaration,
                due: due.clone(),
                stamp: &stamp,
                server,
                allow_writers: subject.allow_writers,
            })?,
        };
        let unfinished = found.observed.as_ref().is_none_or(Observed::is_shadow);
        if let Some(steps) = rebuild.as_ref().filter(|_| unfinished) {
            return Ok(CollectionPlan {
                name: found.name.clone(),
                found: "in the middle of a rebuild".into(),
                steps: steps.clone(),
                publish: true,
            });
        }
        if let Some(observed) = &found.observed {
            collection::no_shadow(&found.name, observed)?;
        }
        let described = verdict.describe();
        if verdict.is_skewed() && !subject.adopt {
            return Err(Error::new(ExitCode::Refused, format!("Qdrant is skewed: collection {} is {described}", found.name))
                .expected(match lineage {
                    Some(lineage) => format!("a collection stamped by this ledger (lineage {lineage}) at version {at} or below, or not at all"),
                    None => "a Postgres ledger beside a stamped collection".into(),
                })
                .remedy("bring the stores back together (was one restored from a backup, or is a volume another one?), or say that they belong together: tandem adopt"));
        }
        if plan.ahead {
            let name = found.name.clone();
            return Ok(CollectionPlan { name, found: described, steps: Vec::new(), publish: false });
        }
        let aliases = &found.declaration.schema.aliases;
        if let Some(taken) = aliases.iter().find(|alias| self.survey.names.contains(*alias)) {
            return Err(Error::new(
                ExitCode::Refused,
                format!("`{taken}` is declared as an alias of {} and is a collection", found.name),
            )
            .expected("a name that no collection has: Qdrant cannot let an alias have it")
            .remedy("declare another alias, or the collection itself"));
        }
        let steps = match rebuild {
            Some(steps) => steps,
            None => {
                let mut steps = collection::steps(
                    &found.name,
                    found.observed.as_ref(),
                    found.declaration,
                    &stamp,
                    server,
                )?;
                if let Some(observed) = &found.observed {
                    collection::fillable(&found.name, &due, observed)?;
                }
                collection::add_fill(&mut steps, &found.name, due);
                let open = |copy: &Observed| collection::Step {
                    collection: copy.name.clone(),
                    action: collection::Action::OpenFence,
                };
                steps.extend(collection::kept_behind_a_fence(&found.shadows).map(open));
                steps
            }
        };
        let publish = !steps.is_empty() || published != Some(plan.target);
        Ok(CollectionPlan { name: found.name.clone(), found: described, steps, publish })
    }
}

/// Loads the expected catalogs; what is missing is said with the command that makes it.
pub fn load_expected(migrations: &Path, timeline: &Timeline) -> Result<Expected> {
    let expected = Expected::load(&migrations.join("catalog"))?.permit(timeline);
    if let Some(missing) = timeline.versions.iter().find(|v| expected.index.version(v.number).is_none()) {
        return Err(Error::new(
            ExitCode::BadTimeline,
            format!("the catalog of version {} ({}) was never recorded", missing.number, missing.name),
        )
        .expected(format!("an entry for it in {}", migrations.join("catalog/index.json").display()))
        .remedy(
            "run tandem record where a Postgres lets the role create a database, and commit what it writes",
        ));
    }
    // Newer ones than the timeline's are never asked for.
    let head = timeline.head().map_or(0, |v| v.number);
    let missing = |number: Number| number < head && timeline.version(number).is_none();
    if let Some(gone) = expected.index.versions.iter().find(|v| missing(v.number)) {
        return Err(Error::new(
            ExitCode::BadTimeline,
            format!(
                "a catalog of version {} ({}) was recorded, and the timeline does not have that version",
                gone.number, gone.name
            ),
        )
        .expected(format!(
            "exactly the timeline's versions in {}",
            migrations.join("catalog/index.json").display()
        ))
        .remedy("put the missing file back, or run tandem record and commit what it writes"));
    }
    Ok(expected)
}
