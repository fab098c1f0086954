//! Functions of the user's own whose bodies name what a version drops. The server knows of no dependency there: such a function
//! breaks in silence, when it runs next.

use super::session::{Session, cell};
use crate::catalog::render::mentions;
use crate::catalog::{Catalog, Expected, Kind, ObjectId};
use crate::error::Result;
use crate::timeline::Number;

/// A function whose body is a text.
#[derive(Debug, Clone)]
pub struct Body {
    pub schema: String,
    /// With its argument types.
    pub name: String,
    pub source: String,
}

/// The functions that nobody's extension brought along, whatever their schema.
pub async fn read(session: &mut Session) -> Result<Vec<Body>> {
    let sql = "select n.nspname::text, p.proname || '(' || pg_catalog.oidvectortypes(p.proargtypes) || ')', p.prosrc \
        from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace \
        join pg_catalog.pg_language l on l.oid = p.prolang \
        where p.oid >= 16384 and l.lanname not in ('c', 'internal') and p.prosqlbody is null \
          and not exists (select from pg_catalog.pg_depend e where e.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass \
            and e.objid = p.oid and e.deptype = 'e') order by 1, 2";
    let rows = session.run("looking for functions with text bodies", sql).await?;
    (0..rows.len())
        .map(|row| {
            Ok(Body {
                schema: cell(&rows, row, 0)?,
                name: cell(&rows, row, 1)?,
                source: cell(&rows, row, 2)?,
            })
        })
        .collect()
}

/// What these versions drop for good: relations, and columns of relations that stay.
pub fn dropped(expected: &Expected, coming: &[Number], head: &Catalog) -> Vec<(Number, ObjectId)> {
    let effects = coming.iter().filter_map(|number| Some((*number, expected.effects.get(number)?)));
    let removed = effects.flat_map(|(number, effects)| effects.removed.iter().map(move |id| (number, id)));
    let goes = |id: &ObjectId| match id.kind {
        Kind::Column => [Kind::Table, Kind::View, Kind::MaterializedView]
            .into_iter()
            .any(|kind| head.objects.contains_key(&ObjectId::relation(kind, &*id.schema, &*id.relation))),
        kind => kind.is_relation(),
    };
    removed
        .filter(|(_, id)| goes(id) && !head.objects.contains_key(id))
        .map(|(number, id)| (number, id.clone()))
        .collect()
}

/// One warning for each function that is not the application's and names something of that.
pub fn warnings(bodies: &[Body], dropped: &[(Number, ObjectId)], expected: &Expected) -> Vec<String> {
    let applications = |body: &Body| {
        let id = ObjectId::alone(Kind::Function, &*body.schema, &*body.name);
        let later =
            expected.effects.values().any(|effects| effects.added.iter().any(|(added, _)| *added == id));
        later || expected.baseline.objects.contains_key(&id)
    };
    let named = |body: &Body, id: &ObjectId| {
        let source = body.source.to_lowercase();
        let names = |name: &str| mentions(&source, &name.to_lowercase());
        names(&id.relation) && (id.kind != Kind::Column || names(&id.name))
    };
    let of = |body: &Body| {
        let found: Vec<String> = dropped
            .iter()
            .filter(|(_, id)| named(body, id))
            .map(|(number, id)| format!("{id} (version {number})"))
            .collect();
        (!found.is_empty()).then(|| {
            format!(
                "your function {}.{} names what is dropped, and breaks when it runs next: {}",
                body.schema,
                body.name,
                found.join(", ")
            )
        })
    };
    bodies.iter().filter(|body| !applications(body)).filter_map(of).collect()
}
