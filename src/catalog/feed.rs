//! A sequence that no column owns, and who counts with it.
//!
//! Where one column alone uses it, it is that column's; where none or several do, it stands alone. A column of the user's own
//! that counts with it too must not change which of the two it is for the application.

use super::{Catalog, Detail, Feeds, Kind, Object, ObjectId, Sequence};

/// The catalog with its sequences told as `wanted` tells them; `None` if nothing is to be told otherwise.
pub fn fed_as<'a>(
    actual: &Catalog,
    wanted: impl Iterator<Item = (&'a ObjectId, &'a Object)>,
) -> Option<Catalog> {
    let mut told = None;
    for (id, object) in wanted {
        let Detail::Sequence(sequence) = &object.detail else { continue };
        let now = told.as_ref().unwrap_or(actual);
        if now.objects.contains_key(id) {
            continue;
        }
        let next = match sequence.feeds {
            Feeds::Free => set_free(now, id),
            Feeds::Owned | Feeds::Used => given(now, id),
            Feeds::Identity => None,
        };
        told = next.or(told);
    }
    told
}

/// A sequence that several use, as that of the column which is known to use it.
fn given(catalog: &Catalog, part: &ObjectId) -> Option<Catalog> {
    let column_id = ObjectId { kind: Kind::Column, ..part.clone() };
    let Detail::Column(column) = &catalog.objects.get(&column_id)?.detail else { return None };
    let default = column.default.as_deref()?;
    let (id, object) = catalog.objects.iter().find(|(id, object)| {
        matches!(&object.detail, Detail::Sequence(sequence) if sequence.feeds == Feeds::Free && next_value(id, sequence) == default)
    })?;
    let mut told = catalog.clone();
    let mut object = object.clone();
    told.objects.remove(id);
    if let Detail::Sequence(sequence) = &mut object.detail {
        sequence.feeds = Feeds::Used;
    }
    told.objects.insert(part.clone(), object);
    if let Some(Detail::Column(column)) = told.objects.get_mut(&column_id).map(|object| &mut object.detail) {
        column.serial = true;
        column.default = None;
    }
    Some(told)
}

/// A sequence that only one column uses, as the one that stands alone.
fn set_free(catalog: &Catalog, alone: &ObjectId) -> Option<Catalog> {
    let (part, object) = catalog.objects.iter().find(|(id, object)| {
        id.schema == alone.schema
            && matches!(&object.detail, Detail::Sequence(sequence) if sequence.feeds == Feeds::Used && sequence.name == alone.name)
    })?;
    let column_id = ObjectId { kind: Kind::Column, ..part.clone() };
    let mut told = catalog.clone();
    let mut object = object.clone();
    told.objects.remove(part);
    if let Detail::Sequence(sequence) = &mut object.detail {
        sequence.feeds = Feeds::Free;
        if let Some(Detail::Column(column)) =
            told.objects.get_mut(&column_id).map(|object| &mut object.detail)
        {
            column.serial = false;
            column.default = Some(next_value(alone, sequence));
        }
    }
    told.objects.insert(alone.clone(), object);
    Some(told)
}

/// A default as the server prints it.
fn next_value(id: &ObjectId, sequence: &Sequence) -> String {
    let name = format!(
        "{}.{}",
        super::render::server_quoted(&id.schema),
        super::render::server_quoted(&sequence.name)
    );
    format!("nextval('{}'::regclass)", name.replace('\'', "''"))
}
