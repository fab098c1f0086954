//! The ledgers of other migration tools: evidence of how a database came to be, never proof.
//!
//! A ledger is told by its columns, because several tools use the same table name. What its rows name is mapped to versions
//! by the `[adoption]` of each version.

use crate::error::{Error, ExitCode, Result};
use crate::timeline::{Number, Timeline};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;

/// A tool whose ledger is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tool {
    Alembic,
    Sqlx,
    Flyway,
    GolangMigrate,
    /// One column `version`, as dbmate and Rails have it; Rails has `ar_internal_metadata` beside it.
    Dbmate,
    Rails,
    Goose,
    Prisma,
    Refinery,
    Diesel,
    /// A start script that records file names.
    Files,
}

/// What is known of a tool.
struct Shape {
    tool: Tool,
    /// Its key in `[adoption]`.
    key: &'static str,
    name: &'static str,
    /// Its ledger's columns in alphabetical order.
    columns: &'static [&'static str],
    /// The categories of their types, as `pg_type.typcategory` has them; a dot where any will do.
    kinds: &'static str,
    /// The text of a row as SQL, the condition that the row counts, and the order in which rows were written.
    text: &'static str,
    condition: &'static str,
    order: &'static str,
}

const SHAPES: [Shape; 10] = [
    Shape {
        tool: Tool::Alembic,
        key: "alembic",
        name: "Alembic",
        columns: &["version_num"],
        kinds: "S",
        text: "version_num",
        condition: "true",
        order: "version_num",
    },
    Shape {
        tool: Tool::Sqlx,
        key: "sqlx",
        name: "sqlx",
        columns: &["checksum", "description", "execution_time", "installed_on", "success", "version"],
        kinds: "....BN",
        text: "version",
        condition: "success",
        order: "version",
    },
    Shape {
        tool: Tool::Flyway,
        key: "flyway",
        name: "Flyway",
        columns: &[
            "checksum",
            "description",
            "execution_time",
            "installed_by",
            "installed_on",
            "installed_rank",
            "script",
            "success",
            "type",
            "version",
        ],
        kinds: ".......B.S",
        text: "coalesce(version, script)",
        condition: "success",
        order: "installed_rank",
    },
    Shape {
        tool: Tool::GolangMigrate,
        key: "golang-migrate",
        name: "golang-migrate",
        columns: &["dirty", "version"],
        kinds: "BN",
        text: "version::text || case when dirty then ' (dirty)' else '' end",
        condition: "true",
        order: "version",
    },
    Shape {
        tool: Tool::Dbmate,
        key: "dbmate",
        name: "dbmate",
        columns: &["version"],
        kinds: "S",
        text: "version",
        condition: "true",
        order: "version",
    },
    Shape {
        tool: Tool::Goose,
        key: "goose",
        name: "goose",
        columns: &["id", "is_applied", "tstamp", "version_id"],
        kinds: ".B.N",
        text: "version_id",
        condition: "is_applied and version_id > 0",
        order: "id",
    },
    Shape {
        tool: Tool::Prisma,
        key: "prisma",
        name: "Prisma",
        columns: &[
            "applied_steps_count",
            "checksum",
            "finished_at",
            "id",
            "logs",
            "migration_name",
            "rolled_back_at",
            "started_at",
        ],
        kinds: "..D..SDD",
        text: "migration_name",
        condition: "finished_at is not null and rolled_back_at is null",
        order: "started_at",
    },
    Shape {
        tool: Tool::Refinery,
        key: "refinery",
        name: "refinery",
        columns: &["applied_on", "checksum", "name", "version"],
        kinds: "...N",
        text: "version",
        condition: "true",
        order: "version",
    },
    Shape {
        tool: Tool::Diesel,
        key: "diesel",
        name: "Diesel",
        columns: &["run_on", "version"],
        kinds: ".S",
        text: "version",
        condition: "true",
        order: "version",
    },
    Shape {
        tool: Tool::Files,
        key: "files",
        name: "a start script",
        columns: &["applied_at", "migration_name"],
        kinds: ".S",
        text: "migration_name",
        condition: "true",
        order: "applied_at, migration_name",
    },
];

/// A table, as far as it takes to tell whether it is a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub schema: String,
    pub name: String,
    /// As SQL names it.
    pub quoted: String,
    /// The columns in alphabetical order, joined by commas, and the categories of their types in the same order.
    pub columns: String,
    pub kinds: String,
    /// It has a primary key.
    pub keyed: bool,
    /// This role may insert into it and delete from it.
    pub writable: bool,
}

/// The names that tools give to a ledger of one column, which alone says little.
const PLAIN_NAMES: [&str; 2] = ["alembic_version", "schema_migrations"];

/// The columns of Rails' second table, which tells its ledger from dbmate's.
const RAILS_METADATA: [&str; 4] = ["created_at", "key", "updated_at", "value"];

impl Tool {
    /// The keys that `[adoption]` of a version may have.
    pub fn keys() -> impl Iterator<Item = &'static str> {
        SHAPES.iter().map(|shape| shape.key).chain(["rails"])
    }

    /// The key in `[adoption]`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Rails => "rails",
            _ => self.shape().map_or("", |shape| shape.key),
        }
    }

    /// The text of a row, the condition that it counts, and the order, as SQL.
    pub fn reading(self) -> (&'static str, &'static str, &'static str) {
        self.shape().map_or(("null", "false", "1"), |shape| (shape.text, shape.condition, shape.order))
    }

    fn shape(self) -> Option<&'static Shape> {
        // Rails' ledger is told from dbmate's by the table beside it alone.
        let tool = if self == Self::Rails { Self::Dbmate } else { self };
        SHAPES.iter().find(|shape| shape.tool == tool)
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rails => f.write_str("Rails"),
            _ => f.write_str(self.shape().map_or("", |shape| shape.name)),
        }
    }
}

/// The column sets of all ledgers, each sorted and joined by commas, for the server to look for.
pub fn signatures() -> impl Iterator<Item = String> {
    SHAPES.iter().map(|shape| shape.columns.join(",")).chain([RAILS_METADATA.join(",")])
}

/// Tells the ledgers among tables by their columns.
///
/// One column of text is a ledger only as the table's key, or under the tool's own name: anybody may have such a table.
pub fn identify(tables: Vec<Table>) -> Vec<(Tool, Table)> {
    let rails: BTreeSet<String> = tables
        .iter()
        .filter(|table| table.name == "ar_internal_metadata" && table.columns == RAILS_METADATA.join(","))
        .map(|table| table.schema.clone())
        .collect();
    let alike = |shape: &Shape, table: &Table| {
        shape.columns.join(",") == table.columns
            && shape.kinds.len() == table.kinds.len()
            && shape
                .kinds
                .chars()
                .zip(table.kinds.chars())
                .all(|(wanted, kind)| wanted == '.' || wanted == kind)
            && (shape.columns.len() > 1 || table.keyed || PLAIN_NAMES.contains(&&*table.name))
    };
    let found = tables.into_iter().filter_map(|table| {
        let shape = SHAPES.iter().find(|shape| alike(shape, &table))?;
        let tool = if shape.tool == Tool::Dbmate && rails.contains(&table.schema) {
            Tool::Rails
        } else {
            shape.tool
        };
        Some((tool, table))
    });
    found.collect()
}

/// Another tool's ledger as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Foreign {
    pub tool: Tool,
    /// The table as SQL names it.
    pub table: String,
    /// What its rows name, oldest first; `None` if this role may not read it.
    pub rows: Option<Vec<String>>,
    /// Whether this role may put another row in the place of those.
    #[serde(skip)]
    pub writable: bool,
}

impl Foreign {
    /// The newest version that its rows claim.
    pub fn claims(&self, timeline: &Timeline) -> Option<Number> {
        self.rows.iter().flatten().filter_map(|row| self.version(row, timeline)).max()
    }

    /// The rows that no version of the timeline knows.
    pub fn unknown(&self, timeline: &Timeline) -> Vec<&str> {
        let rows = self.rows.iter().flatten();
        rows.filter(|row| self.version(row, timeline).is_none()).map(String::as_str).collect()
    }

    fn version(&self, row: &str, timeline: &Timeline) -> Option<Number> {
        let names = |v: &&crate::timeline::Version| {
            v.adoption.get(self.tool.key()).is_some_and(|names| names.iter().any(|name| name == row))
        };
        timeline.versions.iter().rev().find(names).map(|v| v.number)
    }

    /// In words: what it is, what it names, and what that claims.
    pub fn describe(&self, timeline: &Timeline) -> String {
        let Self { tool, table, rows, .. } = self;
        let table = table.replace('"', "");
        let names = match rows.as_deref() {
            None => "may not be read by this role".to_owned(),
            Some([]) => "is empty".to_owned(),
            Some([only]) if only.is_empty() => "holds an empty row".to_owned(),
            Some([only]) => format!("names {only}"),
            Some(several) if *tool == Tool::Alembic => format!("names {}", several.join(" and ")),
            Some([.., newest]) => {
                format!(
                    "names {}, the newest {newest}",
                    crate::words::count(rows.iter().flatten().count(), "migration")
                )
            }
        };
        let claim = match self.claims(timeline) {
            Some(at) => format!(", which claims version {at}"),
            None if rows.as_ref().is_some_and(|rows| rows.iter().any(|row| !row.is_empty()))
                && timeline.versions.iter().any(|v| v.adoption.contains_key(tool.key())) =>
            {
                ", which this timeline does not know".to_owned()
            }
            None => String::new(),
        };
        format!("{table} ({tool}) {names}{claim}")
    }

    /// The statements that leave an Alembic ledger at what was proven, so that the old start script has nothing to do.
    /// Empty if the timeline maps nothing to that version, a row names what it does not know, which may be newer, or
    /// nothing but its one column says that an empty table is Alembic's.
    pub fn mirror(&self, timeline: &Timeline, at: Number) -> String {
        let revision = timeline
            .versions
            .iter()
            .rev()
            .filter(|v| v.number <= at)
            .find_map(|v| v.adoption.get(self.tool.key()).and_then(|names| names.last()));
        let named = self.table.replace('"', "").ends_with(".alembic_version");
        let known = self.unknown(timeline).iter().all(|row| row.is_empty())
            && (named || self.claims(timeline).is_some());
        match (self.tool, &self.rows, revision) {
            (Tool::Alembic, Some(_), Some(revision)) if known => format!(
                "delete from {table}; insert into {table} (version_num) values ('{}');",
                revision.replace('\'', "''"),
                table = self.table
            ),
            _ => String::new(),
        }
    }
}

/// The newest version that any of the ledgers claims.
pub fn claimed(ledgers: &[Foreign], timeline: &Timeline) -> Option<Number> {
    ledgers.iter().filter_map(|ledger| ledger.claims(timeline)).max()
}

/// The statements that leave Alembic's ledger at a version, if there is one and it is not to be left alone.
///
/// # Errors
/// A role that may not write it.
pub fn mirror(timeline: &Timeline, foreign: &[Foreign], at: Number) -> Result<String> {
    let mut sql = String::new();
    if !timeline.settings.adoption_mirror {
        return Ok(sql);
    }
    for ledger in foreign {
        let statements = ledger.mirror(timeline, at);
        if !statements.is_empty() && !ledger.writable {
            let table = &ledger.table;
            return Err(Error::new(
                ExitCode::Authentication,
                format!("{table} ({}) would be set to what is proven, and this role may not write it", ledger.tool),
            )
            .expected("a role that may, so that the old start script finds nothing to do")
            .remedy(format!(
                "have its owner run: grant select, insert, delete on {table} to the role of TANDEM_DATABASE_URL; or leave that ledger \
                 alone: [adoption] mirror = false in tandem.toml"
            )));
        }
        sql.push_str(&statements);
    }
    Ok(sql)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::file::parse;
    use std::path::Path;

    fn timeline() -> Timeline {
        let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let files = vec![
            file("tandem.toml", "application = 'a'"),
            file("1_a.toml", "[adoption]\nalembic = ['base', 'one']\nsqlx = ['1']"),
            file("2_b.toml", "release = '2'"),
            file("3_c.toml", "[adoption]\nalembic = ['three']"),
        ];
        parse(Path::new("m"), files, &|_| None).unwrap()
    }

    fn alembic(rows: &[&str]) -> Foreign {
        Foreign {
            tool: Tool::Alembic,
            table: "\"public\".\"alembic_version\"".into(),
            rows: Some(rows.iter().map(|row| (*row).to_owned()).collect()),
            writable: true,
        }
    }

    #[test]
    fn a_ledger_is_told_by_its_columns_and_never_by_its_name() {
        let table = |name: &str, columns: &str, kinds: &str| Table {
            schema: "public".into(),
            name: name.into(),
            quoted: format!("public.{name}"),
            columns: columns.into(),
            kinds: kinds.into(),
            keyed: true,
            writable: true,
        };
        for (columns, kinds, tool) in [
            ("version_num", "S", Tool::Alembic),
            ("checksum,description,execution_time,installed_on,success,version", "USNDBN", Tool::Sqlx),
            (
                "checksum,description,execution_time,installed_by,installed_on,installed_rank,script,success,type,version",
                "NSNSDNSBSS",
                Tool::Flyway,
            ),
            ("dirty,version", "BN", Tool::GolangMigrate),
            ("version", "S", Tool::Dbmate),
            ("id,is_applied,tstamp,version_id", "NBDN", Tool::Goose),
            (
                "applied_steps_count,checksum,finished_at,id,logs,migration_name,rolled_back_at,started_at",
                "NSDSSSDD",
                Tool::Prisma,
            ),
            ("applied_on,checksum,name,version", "SSSN", Tool::Refinery),
            ("run_on,version", "DS", Tool::Diesel),
            ("applied_at,migration_name", "DS", Tool::Files),
        ] {
            let ledger = table("anything", columns, kinds);
            let found = identify(vec![ledger.clone(), table("orders", "id,name", "NS")]);
            assert_eq!(found, [(tool, ledger)], "{columns}");
            assert!(signatures().any(|signature| signature == columns));
            // The same names with other types are somebody's table.
            assert_eq!(identify(vec![table("anything", columns, &"A".repeat(kinds.len()))]), [], "{columns}");
        }
        let one = table("firmware", "version", "S");
        assert_eq!(identify(vec![Table { keyed: false, ..one.clone() }]), []);
        let named = Table { name: "schema_migrations".into(), keyed: false, ..one };
        assert_eq!(identify(vec![named.clone()]), [(Tool::Dbmate, named)]);
        let metadata = table("ar_internal_metadata", "created_at,key,updated_at,value", "DSDS");
        let ledger = table("schema_migrations", "version", "S");
        assert_eq!(identify(vec![ledger.clone(), metadata.clone()]), [(Tool::Rails, ledger.clone())]);
        let elsewhere = Table { schema: "shop".into(), ..metadata };
        assert_eq!(identify(vec![ledger.clone(), elsewhere]), [(Tool::Dbmate, ledger)]);
    }

    #[test]
    fn rows_are_claims_in_words() {
        let timeline = timeline();
        for (rows, claims, words) in [
            (&[][..], None, "is empty"),
            (&[""], None, "holds an empty row"),
            (&["one"], Some(1), "names one, which claims version 1"),
            (&["base", "three"], Some(3), "names base and three, which claims version 3"),
            (&["nobody's"], None, "names nobody's, which this timeline does not know"),
        ] {
            let ledger = alembic(rows);
            assert_eq!(ledger.claims(&timeline), claims, "{rows:?}");
            assert_eq!(ledger.describe(&timeline), format!("public.alembic_version (Alembic) {words}"));
        }
        let unreadable = Foreign { rows: None, ..alembic(&[]) };
        assert!(unreadable.describe(&timeline).ends_with("may not be read by this role"));
        assert_eq!(claimed(&[alembic(&["one"]), alembic(&["three"])], &timeline), Some(3));
    }

    #[test]
    fn alembic_is_left_at_the_newest_revision_that_the_proven_version_has() {
        let timeline = timeline();
        let set = |revision: &str| {
            format!(
                "delete from \"public\".\"alembic_version\"; insert into \"public\".\"alembic_version\" (version_num) values ('{revision}');"
            )
        };
        for (rows, at, wanted) in [
            (&[][..], 1, set("one")),
            (&[""], 2, set("one")),
            (&["base", "one"], 3, set("three")),
            (&["nobody's"], 3, String::new()),
            (&["one"], 0, String::new()),
        ] {
            assert_eq!(alembic(rows).mirror(&timeline, at), wanted, "{rows:?} {at}");
        }
        // A table of one column under another name is left alone while nothing in it says whose it is.
        let other = |rows: &[&str]| Foreign { table: "\"public\".\"builds\"".into(), ..alembic(rows) };
        assert_eq!((other(&[]).mirror(&timeline, 1), other(&[""]).mirror(&timeline, 1)), Default::default());
        assert!(other(&["base"]).mirror(&timeline, 1).ends_with("values ('one');"));
        let sqlx = Foreign { tool: Tool::Sqlx, ..alembic(&["1"]) };
        assert_eq!(sqlx.claims(&timeline), Some(1));
        assert_eq!(sqlx.mirror(&timeline, 1), "");
    }
}
