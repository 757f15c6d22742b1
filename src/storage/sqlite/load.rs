//! Reading a database: every row is verified, and what is wrong is named.

use super::database::{Database, Unusable};
use super::rows::{Meta, fingerprint, unsigned, verified};
use crate::storage::live::Tree;
use crate::storage::{Encryption, Revision};
use rusqlite::{OptionalExtension, Row};
use std::sync::Arc;

const FORWARD: &str = "SELECT id, key, revision, schema, checksum, body FROM objects ORDER BY id";
const BACKWARD_TO: &str = "SELECT id, key, revision, schema, checksum, body FROM objects WHERE id > ";

/// What a file holds.
pub struct Loaded {
    pub tree: Tree,
    pub meta: Meta,
    /// What is wrong with its objects, one line each; empty: they are exactly what was written.
    pub damage: Vec<String>,
    /// What is wrong around the objects; looked at only when they are whole.
    pub structure: Option<String>,
}

#[derive(Default)]
struct Scan {
    tree: Tree,
    count: u64,
    sum: u64,
    highest: Revision,
    /// The last row that was reached.
    last: i64,
    damage: Vec<String>,
}

impl Database {
    /// Reads and verifies everything; what is encrypted with another key is without content, and no damage.
    pub fn load(&self, encryption: &Encryption) -> Result<Loaded, Unusable> {
        let meta = self.load_meta();
        let mut damage = Vec::new();
        let meta = match meta {
            Ok(meta) => Some(meta),
            Err(Unusable::Damaged(what)) => {
                damage.push(what);
                None
            }
            Err(other) => return Err(other),
        };
        let mut scan = Scan::default();
        match self.scan(&mut scan, encryption).map_err(Unusable::from) {
            Ok(()) => {}
            Err(Unusable::Damaged(what)) => scan.damage.push(what),
            Err(other) => return Err(other),
        }
        let Scan { mut tree, count, sum, highest, damage: found, .. } = scan;
        damage.extend(found);
        if let Some(meta) = &meta
            && damage.is_empty()
        {
            if (count, sum) != (meta.count, meta.sum) {
                damage
                    .push(format!("{count} objects do not add up to what the last of {} commits wrote", meta.sequence));
            }
            if highest > meta.reserved {
                damage.push(format!("revision {} is above the reserved {}", highest.0, meta.reserved.0));
            }
        }
        let structure = if damage.is_empty() { self.check_structure()? } else { None };
        let meta = meta.unwrap_or(Meta { reserved: highest, ..Meta::default() });
        tree.revision = meta.reserved.max(highest);
        Ok(Loaded { tree, meta, damage, structure })
    }

    fn check_structure(&self) -> Result<Option<String>, Unusable> {
        let found: rusqlite::Result<String> =
            self.connection().query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
        match found.map_err(Unusable::from) {
            Ok(found) => Ok((found != "ok").then_some(found)),
            Err(Unusable::Damaged(what)) => Ok(Some(what)),
            Err(other) => Err(other),
        }
    }

    pub fn load_meta(&self) -> Result<Meta, Unusable> {
        let row = self
            .connection()
            .query_row("SELECT sequence, reserved, clean, count, sum, checksum FROM meta WHERE id = 1", [], |row| {
                let meta = Meta {
                    sequence: unsigned(row, 0)?,
                    reserved: Revision(unsigned(row, 1)?),
                    clean: row.get::<_, i64>(2)? == 1,
                    count: unsigned(row, 3)?,
                    sum: unsigned(row, 4)?,
                };
                Ok((meta, row.get::<_, i64>(5)?))
            })
            .optional();
        match row {
            Ok(Some((meta, checksum))) if i64::from(meta.checksum()) == checksum => Ok(meta),
            Ok(Some(_)) => Err(Unusable::Damaged("the meta row does not match its checksum".to_owned())),
            Ok(None) => Err(Unusable::Damaged("the meta row is missing".to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    /// From the front, and where a page cannot be read, from the back to there.
    fn scan(&self, scan: &mut Scan, encryption: &Encryption) -> rusqlite::Result<()> {
        let Err(error) = self.walk(FORWARD, scan, encryption) else { return Ok(()) };
        let end = scan.last;
        // The first error says what is wrong; here it only ends the walk.
        let _ = self.walk(&format!("{BACKWARD_TO}{end} ORDER BY id DESC"), scan, encryption);
        Err(error)
    }

    fn walk(&self, query: &str, scan: &mut Scan, encryption: &Encryption) -> rusqlite::Result<()> {
        let mut statement = self.connection().prepare(query)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            scan.take(row, encryption);
        }
        Ok(())
    }
}

impl Scan {
    fn take(&mut self, row: &Row<'_>, encryption: &Encryption) {
        self.last = row.get(0).unwrap_or(self.last);
        match verified(row, encryption) {
            Ok(entry) if self.tree.find(&entry.key).is_some() => {
                self.damage.push(format!("object {:?} is there twice", entry.key));
            }
            Ok(entry) => {
                self.count += 1;
                self.sum = self.sum.wrapping_add(fingerprint(&entry));
                self.highest = self.highest.max(entry.revision);
                self.tree.insert(Arc::new(entry));
            }
            Err(what) => self.damage.push(what),
        }
    }
}
