//! MariaDB and MySQL: each database, then users and grants, which name tables and routines.

use super::super::error::Result;
use super::super::mariadb::{Tools, counted_tables};
use super::{Load, prove, wait_until};

/// Loads everything, and gives the rows.
pub fn load(load: &Load<'_>) -> Result<u64> {
    let client = load.client;
    let tools = Tools::find(client, &load.database.user)?;
    let service = load.source.name.as_str();
    // It does not listen while the image initialises the folder.
    wait_until(client, || Ok(tools.query(client, service, "SELECT @@skip_networking")?.pop().as_deref() == Some("0")))?;
    let mut rows = 0;
    for dump in load.detail.dumps.iter().filter(|dump| !dump.database.is_empty()) {
        let subject = load.subject(dump);
        client.monitor.item(&subject);
        load.feed(&subject, &tools.query_argv(), &mut load.content(&dump.file)?)?;
        let found = counted_tables(client, &tools, &subject, dump)?;
        rows += prove(&subject, dump, &found)?;
    }
    for dump in load.detail.dumps.iter().filter(|dump| dump.database.is_empty()) {
        let subject = format!("{service} (users)");
        load.feed(&subject, &tools.query_argv(), &mut load.content(&dump.file)?)?;
    }
    Ok(rows)
}
