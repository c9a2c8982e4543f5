//! PostgreSQL: roles first, then each database, as its dump makes it.

use super::super::error::{Error, Result};
use super::super::postgresql::{Tools, counted_rows};
use super::super::verify::postgresql::identifier;
use super::{Load, prove, wait_until};
use std::collections::{BTreeMap, BTreeSet};

/// Loads everything, and gives the rows.
pub fn load(load: &Load<'_>) -> Result<u64> {
    let client = load.client;
    let tools = Tools::find(client, &load.database.user)?;
    // Where it listens is empty while the image initialises the folder.
    let first = &load.database.first;
    wait_until(client, || Ok(!tools.query(client, first, "SHOW listen_addresses")?.is_empty()))?;
    roles(load, &tools)?;
    let mut rows = 0;
    for dump in load.detail.dumps.iter().filter(|dump| !dump.database.is_empty()) {
        let subject = load.subject(dump);
        client.monitor.item(&subject);
        let name = dump.database.replace('"', "\"\"");
        // The image has made it, empty; the dump makes it as it was.
        tools.query(client, "template1", &format!("DROP DATABASE IF EXISTS \"{name}\""))?;
        load.feed(&subject, &tools.quiet_psql("template1"), &mut load.content(&dump.file)?)?;
        let found: BTreeMap<String, u64> = counted_rows(client, &tools, &subject, &dump.database)?
            .into_iter()
            .map(|(schema, table, rows)| (format!("{schema}.{table}"), rows))
            .collect();
        rows += prove(&subject, dump, &found)?;
    }
    Ok(rows)
}

/// Roles that the image has made already are only altered.
fn roles(load: &Load<'_>, tools: &Tools<'_>) -> Result<()> {
    let globals = load.detail.dumps.iter().filter(|dump| dump.database.is_empty());
    for dump in globals {
        let subject = format!("{} (roles)", load.source.name);
        let known = tools.query(load.client, "template1", "SELECT json_agg(rolname) FROM pg_roles")?;
        let known: BTreeSet<String> = serde_json::from_str(&known)
            .map_err(|_| Error::database(&subject, "the new server's list of roles is not understood"))?;
        let text = load.text(&dump.file)?;
        let made_already = |line: &str| {
            let name = line.strip_prefix("CREATE ROLE ").and_then(identifier);
            name.is_some_and(|(name, rest)| rest == ";" && known.contains(&name))
        };
        let wanted: String = text.lines().filter(|line| !made_already(line)).flat_map(|line| [line, "\n"]).collect();
        load.feed(&subject, &tools.quiet_psql("template1"), &mut wanted.as_bytes())?;
    }
    Ok(())
}
