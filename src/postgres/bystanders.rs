//! What a version must leave alone: everything that is not the application's, wherever it is, and what hangs on the application's
//! objects without being in their catalog.
//!
//! An inventory is taken before the version and behind it, where its SQL can take anything away. An object is still there if its
//! oid is, or its name: what was made again is the same one, and gets back its owner, its grants and its comments. What the
//! catalog of the managed schemas shows is compared there; see [`super::guard::lost`].
//!
//! Whether SQL can take something away is not read off it for certain: it may call a function. Whatever is dropped loses its
//! rows in `pg_depend`, which the server counts, or is a column. A version that was not expected to is rolled back, and run once
//! more with an inventory.

use super::introspect::{Exclude, managed, with_settings};
use super::session::{Check, Failure, Session, cell, identifier, literal};
use crate::catalog::{Kind, ObjectId};
use crate::error::{Error, ExitCode, Result};
use crate::timeline::{Number, Timeline, sql};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// How many rows of `pg_depend` this transaction and those right before it have deleted.
const DELETED: &str =
    "pg_catalog.pg_stat_get_xact_tuples_deleted('pg_catalog.pg_depend'::pg_catalog.regclass)";

/// How many rows of `pg_attribute` they have updated.
const UPDATED: &str =
    "pg_catalog.pg_stat_get_xact_tuples_updated('pg_catalog.pg_attribute'::pg_catalog.regclass)";

/// An object as the inventory has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bystander {
    /// The oids of its catalog and its own; a column has that of its relation, and its number.
    pub class: String,
    pub oid: String,
    pub column: String,
    pub kind: String,
    pub schema: String,
    /// What it is or belongs to, as a name or, for a function, as SQL.
    pub relation: String,
    pub name: String,
    /// Its schema is managed.
    pub managed: bool,
    pub owner: String,
    /// One grant a line, role, privilege and options; empty if it has the default ones.
    pub acl: String,
    pub comment: Option<String>,
    /// Differs where something else has been put in its place; a default has the number of its column.
    pub print: Option<String>,
}

impl Bystander {
    fn place(&self) -> (&str, &str, &str) {
        (&self.class, &self.oid, &self.column)
    }

    fn identity(&self) -> (&str, &str, &str, &str) {
        (&self.kind, &self.schema, &self.relation, &self.name)
    }

    fn is_relation(&self) -> bool {
        matches!(self.kind.as_str(), "table" | "view" | "materialized view" | "foreign table" | "sequence")
    }

    /// The last part of what it is called.
    fn bare_name(&self) -> String {
        let name = match self.kind.as_str() {
            "function" | "procedure" | "aggregate" => {
                let name = self.relation.split('(').next().unwrap_or_default();
                name.rsplit('.').next().unwrap_or_default()
            }
            _ if self.name.is_empty() => &self.relation,
            _ => &self.name,
        };
        name.trim_matches('"').replace("\"\"", "\"")
    }

    /// It is listed for what it carries, or as a trace; a column that is gone is only known by its relation.
    fn is_column(&self) -> bool {
        matches!(self.kind.as_str(), "column" | "dropped column")
    }

    /// As SQL names what it is or belongs to.
    fn sql(&self) -> String {
        match self.kind.as_str() {
            "schema" => identifier(&self.schema),
            "function" | "procedure" | "aggregate" => self.relation.clone(),
            _ => format!("{}.{}", identifier(&self.schema), identifier(&self.relation)),
        }
    }
}

/// Whose an object is that the catalog does not show.
pub struct Ours<'a> {
    /// What the versions know of, whenever.
    pub known: HashSet<&'a ObjectId>,
    /// What the timeline's SQL calls statistics, rules, publications and the like.
    pub named: Named,
}

/// Names in statements about objects that no catalog shows, and the words for these objects.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Named {
    words: BTreeSet<String>,
    names: BTreeSet<String>,
}

/// What the catalog shows, so that its statements name nothing else.
const SHOWN: [&str; 20] = [
    "table",
    "index",
    "unique",
    "view",
    "materialized",
    "function",
    "procedure",
    "trigger",
    "sequence",
    "type",
    "domain",
    "schema",
    "extension",
    "temp",
    "temporary",
    "unlogged",
    "policy",
    "database",
    "role",
    "user",
];

impl Named {
    pub fn by(timeline: &Timeline) -> Self {
        let texts = timeline.versions.iter().flat_map(|version| {
            let files = [&version.up, &version.down].into_iter().flatten().map(|file| file.text.as_str());
            files.chain(version.data.as_deref())
        });
        let mut named = Self::default();
        for statement in texts.flat_map(sql::statements) {
            let at = statement.skip(1, &["or", "replace"]);
            if !["create", "alter"].iter().any(|word| statement.word(0, word))
                || SHOWN.iter().any(|word| statement.word(at, word))
            {
                continue;
            }
            let mut names = statement.tokens.iter().skip(at).filter_map(|token| token.name(statement.text));
            named.words.extend(names.next());
            named.names.extend(names);
        }
        named
    }
}

impl Ours<'_> {
    /// The versions may do with it what they do.
    fn explains(&self, lost: &Bystander) -> bool {
        let relation = |kind| ObjectId::relation(kind, &*lost.schema, &*lost.relation);
        match lost.kind.as_str() {
            "table" | "view" | "materialized view" | "foreign table" if lost.managed => {
                let kinds = [Kind::Table, Kind::View, Kind::MaterializedView];
                kinds.into_iter().map(relation).any(|id| self.known.contains(&id))
            }
            "type" | "domain" if lost.managed => {
                let kinds = [Kind::Enum, Kind::Composite, Kind::Range, Kind::Domain];
                let alone = |kind| ObjectId::alone(kind, &*lost.schema, &*lost.relation);
                kinds.into_iter().map(alone).any(|id| self.known.contains(&id))
            }
            // The comparison of the catalog tells.
            "sequence" | "function" | "procedure" | "aggregate" | "dropped column" | "domain constraint" => {
                lost.managed
            }
            "default" => {
                let column = ObjectId::part(Kind::Column, &*lost.schema, &*lost.relation, &*lost.name);
                lost.managed && self.known.contains(&column)
            }
            "rule" | "statistics" | "publication" => self.named.names.contains(&lost.name),
            "schema" | "table" | "view" | "materialized view" | "foreign table" | "index" | "constraint"
            | "trigger" | "policy" => false,
            other => other.split(' ').next().is_some_and(|word| self.named.words.contains(word)),
        }
    }
}

/// What was there and is not any more: what went with something else that is lost is not told again.
pub fn lost<'a>(before: &'a [Bystander], after: &'a [Bystander], ours: &Ours<'_>) -> Vec<&'a Bystander> {
    let places: HashSet<_> = after.iter().map(Bystander::place).collect();
    let identities: HashSet<_> = after.iter().map(Bystander::identity).collect();
    let gone = |object: &Bystander| {
        !object.is_column() && !places.contains(&object.place()) && !identities.contains(&object.identity())
    };
    let gone: Vec<&Bystander> = before.iter().filter(|object| gone(object)).collect();
    let schemas: HashSet<&str> =
        gone.iter().filter(|o| o.kind == "schema").map(|o| o.schema.as_str()).collect();
    let relations: HashMap<(&str, &str), bool> = gone
        .iter()
        .filter(|object| object.is_relation())
        .map(|object| ((object.schema.as_str(), object.relation.as_str()), ours.explains(object)))
        .collect();
    let traces: HashSet<_> =
        before.iter().filter(|o| o.kind == "dropped column").map(Bystander::place).collect();
    let columns = || {
        let dropped = after.iter().filter(|object| object.kind == "dropped column");
        dropped.filter(|object| !traces.contains(&object.place()))
    };
    let columns_gone: HashSet<_> = columns().map(|o| (&*o.schema, &*o.relation, o.column.as_str())).collect();
    let told = |object: &Bystander| {
        let with_column = object.kind == "default"
            && object
                .print
                .as_deref()
                .is_some_and(|number| columns_gone.contains(&(&*object.schema, &*object.relation, number)));
        let with_schema = object.kind != "schema" && schemas.contains(object.schema.as_str());
        let with_relation = !object.is_relation()
            && match relations.get(&(object.schema.as_str(), object.relation.as_str())) {
                Some(explained) => !explained || object.kind == "default",
                None => false,
            };
        with_column || with_schema || with_relation
    };
    let there: HashSet<&str> = before.iter().filter(|o| o.is_relation()).map(|o| o.oid.as_str()).collect();
    let columns = columns().filter(|object| there.contains(object.oid.as_str()));
    let found = gone.into_iter().filter(|object| !told(object)).chain(columns);
    found.filter(|object| !ours.explains(object)).collect()
}

/// What is there under the same name, is something else now, and was the user's own: no version has it, and nothing that is said
/// before the versions that ran names it. In pairs of what it was and what it is.
pub fn replaced<'a>(
    before: &'a [Bystander],
    after: &'a [Bystander],
    known: &HashSet<&ObjectId>,
    timeline: &Timeline,
    first: Number,
) -> Vec<(&'a Bystander, &'a Bystander)> {
    let now: HashMap<_, _> = after.iter().map(|object| (object.identity(), object)).collect();
    let other = |old: &&Bystander| old.print.is_some() && old.kind != "default";
    let mut found: Vec<_> = before
        .iter()
        .filter(other)
        .filter_map(|old| now.get(&old.identity()).map(|new| (old, *new)))
        .filter(|(old, new)| old.print != new.print)
        .collect();
    if !found.is_empty() {
        let said = said_before(timeline, first);
        found.retain(|(old, _)| !(said.contains(&old.bare_name()) || is_known(old, known)));
    }
    found
}

/// The overloads of a function are not told apart: the way in which types are written differs.
fn is_known(object: &Bystander, known: &HashSet<&ObjectId>) -> bool {
    let Bystander { schema, relation, managed, .. } = object;
    let view = |kind| known.contains(&ObjectId::relation(kind, &**schema, &**relation));
    let function = |id: &&ObjectId| {
        id.kind == Kind::Function
            && id.schema == *schema
            && id.name.split('(').next() == Some(&object.bare_name())
    };
    *managed
        && match object.kind.as_str() {
            "view" | "materialized view" => view(Kind::View) || view(Kind::MaterializedView),
            "function" | "procedure" | "aggregate" => known.iter().copied().any(|id| function(&id)),
            _ => false,
        }
}

/// The names in what versions below one make or alter, the words of their blocks and bodies included.
fn said_before(timeline: &Timeline, number: Number) -> HashSet<String> {
    let below = timeline.versions.iter().filter(|version| version.number < number);
    let texts = below
        .flat_map(|version| version.up.iter().map(|file| file.text.as_str()).chain(version.data.as_deref()));
    let mut said = HashSet::new();
    for statement in texts.flat_map(sql::statements) {
        let makes = ["create", "alter"].iter().any(|word| statement.word(0, word));
        for token in &statement.tokens {
            let text = token.text(statement.text);
            match token.kind {
                sql::Kind::String => {
                    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$');
                    said.extend(words.flat_map(|word| [word.to_owned(), word.to_lowercase()]));
                }
                _ if makes => said.extend(token.name(statement.text)),
                _ => {}
            }
        }
    }
    said
}

/// What there is to know about an object to refuse its loss: kind, identity and definition, as SQL names and writes them.
pub struct Told {
    kind: String,
    identity: String,
    named: String,
    definition: String,
}

/// Asks for it, in the order of the objects.
pub async fn told(session: &mut Session, objects: &[&Bystander]) -> Result<Vec<Told>> {
    let rows = objects.iter().enumerate().map(|(i, o)| format!("({i}, {}::oid, {}::oid, 0)", o.class, o.oid));
    let sql = format!(
        "SELECT i.type, i.identity, pg_describe_object(l.class, l.oid, 0), coalesce({DEFINITION}, '') \
         FROM (VALUES {}) l (place, class, oid, sub) CROSS JOIN LATERAL pg_identify_object(l.class, l.oid, 0) i ORDER BY l.place;",
        rows.collect::<Vec<_>>().join(", ")
    );
    let answers = session.run("asking what would be replaced", with_settings(&sql)).await?;
    let mut found = Vec::new();
    for i in 0..answers.len() {
        if cell::<&str>(&answers, i, 0)? != "setting" {
            let definition: String = cell(&answers, i, 3)?;
            found.push(Told {
                kind: cell(&answers, i, 0)?,
                identity: cell(&answers, i, 1)?,
                named: cell(&answers, i, 2)?,
                definition: definition.split_whitespace().collect::<Vec<_>>().join(" "),
            });
        }
    }
    Ok(found)
}

/// The refusal of versions that would put something else in the place of the user's own.
pub fn would_replace(what: &str, pairs: &[(&Bystander, &Bystander)], was: &[Told], is: &[Told]) -> Error {
    let both = was.iter().zip(is).map(|(was, is)| {
        format!("your {}. It is now: {}; it would be: {}", was.named, was.definition, is.definition)
    });
    let renames = was.iter().zip(pairs).map(|(was, (old, _))| {
        let name = identifier(&format!("{}_own", old.bare_name()));
        format!("alter {} {} rename to {name}", was.kind, was.identity)
    });
    let found = both.collect::<Vec<_>>().join("; ");
    Error::new(
        ExitCode::Refused,
        format!("{what} would replace what is not the application's, so it was rolled back: {found}"),
    )
    .expected("everything of your own is as it was afterwards")
    .remedy(format!("rename it, and start again: {}", renames.collect::<Vec<_>>().join("; ")))
}

/// The statements that give what was made again its owner, its grants and its comments, each with what it is about.
pub fn given_back(before: &[Bystander], after: &[Bystander]) -> Vec<String> {
    let places: HashSet<_> = after.iter().map(Bystander::place).collect();
    let now: HashMap<_, _> = after.iter().map(|object| (object.identity(), object)).collect();
    let remade: BTreeMap<(&str, &str), (&Bystander, &Bystander)> = before
        .iter()
        .filter(|object| !object.owner.is_empty() && !places.contains(&object.place()))
        .filter_map(|old| now.get(&old.identity()).map(|new| ((&*old.schema, &*old.relation), (old, *new))))
        .collect();
    let mut statements = Vec::new();
    for (old, new) in remade.values() {
        let (kind, name) = (&old.kind, new.sql());
        if old.owner != new.owner {
            statements.push(format!("alter {kind} {name} owner to {};", identifier(&old.owner)));
        }
        let target = match kind.as_str() {
            "table" | "view" | "materialized view" | "foreign table" => "table",
            "aggregate" => "function",
            "domain" => "type",
            kind => kind,
        };
        statements.extend(grants(&old.acl, &new.acl, "", &format!("{target} {name}")));
        let open = |acl: &str| acl.is_empty() || acl.lines().any(|grant| grant.starts_with("public\t"));
        if matches!(target, "function" | "procedure" | "type") && !open(&old.acl) && open(&new.acl) {
            statements.push(format!("revoke all on {target} {name} from public;"));
        }
        if let (Some(comment), None) = (&old.comment, &new.comment) {
            statements.push(format!("comment on {kind} {name} is {};", literal(comment)));
        }
    }
    for old in before.iter().filter(|object| object.kind == "column") {
        let Some((_, relation)) = remade.get(&(&*old.schema, &*old.relation)) else { continue };
        let (name, column) = (relation.sql(), identifier(&old.name));
        let new = now.get(&old.identity());
        let mut inner: Vec<String> = grants(
            &old.acl,
            new.map_or("", |new| &new.acl),
            &format!(" ({column})"),
            &format!("table {name}"),
        )
        .collect();
        if let (Some(comment), None) = (&old.comment, new.and_then(|new| new.comment.as_ref())) {
            inner.push(format!("comment on column {name}.{column} is {};", literal(comment)));
        }
        if !inner.is_empty() {
            // It may be made again without the column.
            statements.push(format!(
                "do $tandem$ begin if exists (select from pg_catalog.pg_attribute where attrelid = {}::pg_catalog.regclass \
                 and attname = {} and not attisdropped) then {} end if; end $tandem$;",
                literal(&name),
                literal(&old.name),
                inner.concat()
            ));
        }
    }
    statements
}

/// What grants again whatever of it is not granted now.
fn grants(old: &str, new: &str, column: &str, target: &str) -> impl Iterator<Item = String> {
    let new: HashSet<&str> = new.lines().collect();
    old.lines()
        .filter(|grant| !new.contains(grant))
        .filter_map(|grant| {
            let (role, rest) = grant.split_once('\t')?;
            let (privilege, option) = rest.split_once('\t')?;
            let option = if option == "t" { " with grant option" } else { "" };
            Some(format!("grant {privilege}{column} on {target} to {role}{option};"))
        })
        .collect::<Vec<_>>()
        .into_iter()
}

/// Is an inventory taken before this SQL runs? Its words tell in nearly all cases; the server's counter tells in the others.
pub fn may_drop(sql: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    ["drop", "replace", " type ", "set default", "execute", "call "].iter().any(|word| sql.contains(word))
}

/// Notes the counters at the beginning of a transaction without an inventory; expressions.
pub fn noted() -> [String; 2] {
    [("dropped", DELETED), ("altered", UPDATED)]
        .map(|(name, count)| format!("pg_catalog.set_config('tandem.{name}', {count}::text, true)"))
}

/// Has something been dropped since? Never in a transaction that did not note it.
///
/// A column of a built-in type depends on nothing, and no row goes with it: it is looked for where one was altered.
pub fn dropped() -> String {
    let more = |name: &str, count: &str| {
        format!("{count} > nullif(pg_catalog.current_setting('tandem.{name}', true), '')::bigint")
    };
    format!(
        "{} or {} and exists (select from pg_catalog.pg_lock_status() l join pg_catalog.pg_attribute a on a.attrelid = l.relation \
           where l.pid = pg_catalog.pg_backend_pid() and l.mode = 'AccessExclusiveLock' and a.attisdropped \
             and pg_catalog.age(a.xmin) between -1000000 and 0)",
        more("dropped", DELETED),
        more("altered", UPDATED),
    )
}

/// Takes the inventory.
pub async fn inventory(
    session: &mut Session,
    schemas: &[String],
    exclude: &Exclude<'_>,
) -> Result<Vec<Bystander>> {
    // Planned once for a session: that is most of what it costs in a database of ordinary size.
    let check = Check { types: String::new(), text: statement(schemas, exclude), values: String::new() };
    let execute = session.prepared(&[check]).await?;
    let rows = session.run("taking stock of what is not the application's", with_settings(&execute)).await?;
    let mut inventory = Vec::with_capacity(rows.len());
    for i in 0..rows.len() {
        if cell::<&str>(&rows, i, 0)? == "setting" {
            continue;
        }
        let text = |column| cell::<String>(&rows, i, column);
        inventory.push(Bystander {
            class: text(0)?,
            oid: text(1)?,
            column: text(2)?,
            kind: text(3)?,
            schema: text(4)?,
            relation: text(5)?,
            name: text(6)?,
            managed: cell(&rows, i, 7)?,
            owner: text(8)?,
            acl: text(9)?,
            comment: cell(&rows, i, 10)?,
            print: cell(&rows, i, 11)?,
        });
    }
    Ok(inventory)
}

fn statement(schemas: &[String], exclude: &Exclude<'_>) -> String {
    let mut sql = include_str!("bystanders.sql").trim_end().to_owned();
    while let Some((before, rest)) = sql.split_once("{acl ") {
        let Some((acl, after)) = rest.split_once('}') else { break };
        sql = format!(
            "{before}CASE WHEN {acl} IS NULL THEN '' ELSE (SELECT coalesce(string_agg(concat_ws(E'\\t', \
             CASE a.grantee WHEN 0 THEN 'public' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, a.privilege_type, a.is_grantable), \
             E'\\n' ORDER BY a.grantee, a.privilege_type), '-') FROM aclexplode({acl}) a) END{after}"
        );
    }
    let sql = sql.replace("{managed}", &managed(schemas, exclude));
    sql.replace("{ledger}", &literal(exclude.ledger_schema))
}

/// The refusal that names what would be lost, what it stands on and the way out. The transaction has been rolled back, so that
/// everything is there to be asked; `None` if it is not, because somebody else dropped it meanwhile.
pub async fn refusal(
    session: &mut Session,
    what: &str,
    before: &[Bystander],
    after: &[Bystander],
    lost: &[&Bystander],
) -> Result<Option<Error>> {
    const SHOWN: usize = 10;
    let places: HashSet<_> = after.iter().map(Bystander::place).collect();
    let there: HashSet<_> = before.iter().map(Bystander::place).collect();
    let gone = before.iter().filter(|object| !object.is_column() && !places.contains(&object.place()));
    let columns = after.iter().filter(|o| o.kind == "dropped column" && !there.contains(&o.place()));
    let row = |object: &&Bystander| {
        let class =
            if object.is_column() { "'pg_catalog.pg_class'::pg_catalog.regclass" } else { &object.class };
        format!("({class}::oid, {}::oid, {})", object.oid, object.column)
    };
    let rows = |objects: &mut dyn Iterator<Item = &Bystander>| {
        objects.map(|o| row(&o)).collect::<Vec<_>>().join(", ")
    };
    let asked = DESCRIBED
        .replace("{definition}", DEFINITION)
        .replace("{lost}", &rows(&mut lost.iter().take(SHOWN).copied()))
        .replace("{gone}", &rows(&mut gone.chain(columns)));
    let answers = session.run("asking what would be lost", with_settings(&asked)).await?;
    let (mut found, mut remedies) = (Vec::new(), Vec::new());
    for i in 0..answers.len() {
        if cell::<&str>(&answers, i, 0)? == "setting" {
            continue;
        }
        let (kind, identity, named): (String, String, String) =
            (cell(&answers, i, 0)?, cell(&answers, i, 1)?, cell(&answers, i, 2)?);
        let stands_on: Option<String> = cell(&answers, i, 3)?;
        let definition: Option<String> = cell(&answers, i, 4)?;
        found.push(stands_on.map_or_else(|| named.clone(), |on| format!("{named}, which stands on {on}")));
        remedies.extend(way_out(&kind, &identity).map(|way| {
            let now = definition.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
            format!("{way}{}", now.map_or_else(String::new, |now| format!(" (it is now: {now})")))
        }));
    }
    if found.is_empty() {
        return Ok(None);
    }
    let more = match lost.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let remedy = match remedies.is_empty() {
        true => "let the version leave alone what is not the application's; if the schema is, name it in tandem.toml under schemas".to_owned(),
        false => format!("if it is your own, keep its definition and take it out of the way: {}; start again, and make it anew where it still can be", remedies.join("; ")),
    };
    Ok(Some(
        Error::new(
            ExitCode::Refused,
            format!(
                "{what} would take away what it is not known to drop, so it was rolled back: {}{more}",
                found.join("; ")
            ),
        )
        .expected("everything but what the recorded effects drop is still there afterwards")
        .remedy(remedy),
    ))
}

/// Somebody else drops things while a version runs.
pub fn dropped_meanwhile(what: &str) -> Error {
    Error::new(ExitCode::Refused, format!("others dropped objects while {what} ran, so it was rolled back"))
        .expected("nobody else changes the database meanwhile")
        .remedy("start again")
}

/// What cannot be given back to what was made again.
pub fn not_given_back(what: &str, failure: Failure) -> Error {
    if failure.lost {
        return failure.into_error("giving back owners and grants");
    }
    Error::new(
        ExitCode::Refused,
        format!("{what} makes something again that has an owner, grants or comments of your own, which cannot be given back, so it was rolled back: {}", failure.words()),
    )
    .expected("the same owner, grants and comments as before")
    .remedy("give tandem a role that may grant them, or take them away, start again, and grant them anew")
}

/// The statement that takes it out of the way; `None` for what holds data.
fn way_out(kind: &str, identity: &str) -> Option<String> {
    Some(match kind {
        "table constraint" => {
            let (name, table) = identity.split_once(" on ")?;
            format!("alter table {table} drop constraint {name}")
        }
        "default value" => {
            let (table, column) = identity.strip_prefix("for ")?.rsplit_once('.')?;
            format!("alter table {table} alter column {column} drop default")
        }
        "publication relation" => {
            let (table, publication) = identity.split_once(" in publication ")?;
            format!("alter publication {publication} drop table {table}")
        }
        "statistics object" => format!("drop statistics {identity}"),
        "table" | "table column" | "foreign table" | "foreign table column" | "schema" | "sequence" => {
            return None;
        }
        kind => format!("drop {kind} {identity}"),
    })
}

/// Of an object `l`, as far as the server can print it.
const DEFINITION: &str = "\
    CASE l.class
        WHEN 'pg_class'::regclass THEN (SELECT CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid)
            WHEN c.relkind IN ('i', 'I') THEN pg_get_indexdef(c.oid) END FROM pg_class c WHERE c.oid = l.oid AND l.sub = 0)
        WHEN 'pg_constraint'::regclass THEN pg_get_constraintdef(l.oid)
        WHEN 'pg_trigger'::regclass THEN pg_get_triggerdef(l.oid)
        WHEN 'pg_rewrite'::regclass THEN pg_get_ruledef(l.oid)
        WHEN 'pg_statistic_ext'::regclass THEN pg_get_statisticsobjdef(l.oid)
        WHEN 'pg_attrdef'::regclass THEN (SELECT pg_get_expr(a.adbin, a.adrelid) FROM pg_attrdef a WHERE a.oid = l.oid)
        WHEN 'pg_proc'::regclass THEN (SELECT pg_get_functiondef(p.oid) FROM pg_proc p WHERE p.oid = l.oid AND p.prokind IN ('f', 'p', 'w'))
    END";

const DESCRIBED: &str = "\
WITH gone (class, oid, sub) AS (VALUES {gone}), lost (class, oid, sub) AS (VALUES {lost}), stands AS (
    SELECT l.class, l.oid, l.sub, d.refclassid, d.refobjid,
        CASE WHEN (d.refclassid, d.refobjid, 0) IN (SELECT g.class, g.oid, g.sub FROM gone g) THEN 0 ELSE d.refobjsubid END AS refobjsubid,
        EXISTS (SELECT FROM gone g WHERE g.class = d.refclassid AND g.oid = d.refobjid AND g.sub IN (0, d.refobjsubid)) AS going
    FROM lost l JOIN pg_depend d ON d.classid = l.class AND d.objid = l.oid AND l.sub IN (0, d.objsubid)
            AND (l.sub <> 0 OR l.class <> 'pg_class'::regclass OR d.objsubid = 0)
        OR l.class = 'pg_class'::regclass AND d.classid = 'pg_rewrite'::regclass
            AND d.objid IN (SELECT w.oid FROM pg_rewrite w WHERE w.ev_class = l.oid)
    WHERE d.refclassid NOT IN ('pg_namespace'::regclass, 'pg_publication'::regclass) AND (d.refclassid, d.refobjid) <> (l.class, l.oid)
)
SELECT i.type, i.identity, pg_describe_object(l.class, l.oid, l.sub),
    (SELECT string_agg(DISTINCT pg_describe_object(s.refclassid, s.refobjid, s.refobjsubid), ', ') FROM stands s
     WHERE (s.class, s.oid, s.sub) = (l.class, l.oid, l.sub)
        AND (s.going OR NOT EXISTS (SELECT FROM stands o WHERE (o.class, o.oid, o.sub) = (l.class, l.oid, l.sub) AND o.going))),
    {definition}
FROM lost l CROSS JOIN LATERAL pg_identify_object(l.class, l.oid, l.sub) i WHERE i.identity IS NOT NULL ORDER BY 1, 2;
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::file;

    fn object(oid: u32, kind: &str, of: (&str, &str), name: &str) -> Bystander {
        let owner = if matches!(kind, "view" | "table" | "function") { "me" } else { "" };
        Bystander {
            oid: oid.to_string(),
            kind: kind.into(),
            schema: of.0.into(),
            relation: of.1.into(),
            name: name.into(),
            managed: of.0 == "public",
            owner: owner.into(),
            ..Bystander::default()
        }
    }

    fn timeline(up: &str) -> Timeline {
        let files = vec![
            ("tandem.toml".to_owned(), "application = \"demo\"\n".to_owned()),
            ("0001_a.up.sql".to_owned(), up.to_owned()),
        ];
        file::parse("migrations".as_ref(), files, &|_| None).unwrap()
    }

    #[test]
    fn what_goes_with_something_else_that_is_lost_is_told_once() {
        let before = [
            object(1, "table", ("public", "ours"), ""),
            object(2, "rule", ("public", "ours"), "own"),
            object(3, "statistics", ("public", "ours"), "of_ours"),
            object(4, "default", ("public", "ours"), "a"),
            object(5, "table", ("mine", "t"), ""),
            object(6, "index", ("mine", "t"), "i"),
            object(7, "schema", ("other", ""), ""),
            object(8, "table", ("other", "u"), ""),
            object(9, "view", ("mine", "again"), ""),
            object(10, "table", ("mine", "renamed"), ""),
            object(11, "function", ("public", "public.f()"), ""),
        ];
        let mut trace = object(10, "dropped column", ("mine", "now"), "........pg.dropped.2........");
        trace.column = "2".into();
        let after =
            [object(12, "view", ("mine", "again"), ""), object(10, "table", ("mine", "now"), ""), trace];
        let id = ObjectId::relation(Kind::Table, "public", "ours");
        let ours = Ours {
            known: HashSet::from([&id]),
            named: Named::by(&timeline("create statistics of_ours on a, b from ours;\n")),
        };
        let lost: Vec<_> =
            lost(&before, &after, &ours).iter().map(|o| (o.kind.as_str(), o.oid.as_str())).collect();
        assert_eq!(lost, [("rule", "2"), ("table", "5"), ("schema", "7"), ("dropped column", "10")]);
        let ours = Ours { known: HashSet::new(), named: Named::default() };
        let foreign = super::lost(&before[..4], &[], &ours);
        assert_eq!(foreign.iter().map(|o| o.kind.as_str()).collect::<Vec<_>>(), ["table"]);
    }

    #[test]
    fn what_was_made_again_gets_back_what_it_lacks() {
        let mut old = object(1, "view", ("public", "v"), "");
        old.acl = "me\tSELECT\tf\nreader\tSELECT\tt".into();
        old.comment = Some("it's mine".into());
        let mut column = object(1, "column", ("public", "v"), "a");
        column.acl = "reader\tUPDATE\tf".into();
        let mut function = object(2, "function", ("public", "public.f()"), "");
        function.acl = "me\tEXECUTE\tf".into();
        let mut new = object(3, "view", ("public", "v"), "");
        new.acl = "me\tSELECT\tf".into();
        new.owner = "migrator".into();
        let again = object(4, "function", ("public", "public.f()"), "");
        let before = [old.clone(), column, function];
        assert_eq!(
            given_back(&before, &[new, again]),
            [
                "grant EXECUTE on function public.f() to me;".to_owned(),
                "revoke all on function public.f() from public;".to_owned(),
                "alter view \"public\".\"v\" owner to \"me\";".to_owned(),
                "grant SELECT on table \"public\".\"v\" to reader with grant option;".to_owned(),
                "comment on view \"public\".\"v\" is 'it''s mine';".to_owned(),
                "do $tandem$ begin if exists (select from pg_catalog.pg_attribute where attrelid = '\"public\".\"v\"'::pg_catalog.regclass \
                 and attname = 'a' and not attisdropped) then grant UPDATE (\"a\") on table \"public\".\"v\" to reader; end if; end $tandem$;"
                    .to_owned(),
            ]
        );
        assert_eq!(given_back(&before, &before), Vec::<String>::new(), "nothing was made again");
    }

    #[test]
    fn the_words_of_a_file_tell_whether_it_may_drop_something() {
        for sql in [
            "DROP VIEW v",
            "create or replace view v as select 1",
            "do $$ begin execute 'x'; end $$",
            "call p()",
        ] {
            assert!(may_drop(sql), "{sql}");
        }
        for sql in [
            "create table t (id int primary key, a text)",
            "insert into t values (1)",
            "alter table t add column b int",
        ] {
            assert!(!may_drop(sql), "{sql}");
        }
    }
}
