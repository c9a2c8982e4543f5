//! What a database holds, as text that can be compared: each table's rows, the schema, the roles. Asked by SQL from
//! the servers' own clients, so that nothing here is shared with what captures and restores.

use super::instance::Instance;
use crate::snap::{WATCHDOG, run};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// What was asked, and the answer.
pub type Answers = BTreeMap<String, String>;

/// Everything of the stack's databases.
pub fn of(instance: &Instance) -> Result<Answers, String> {
    let mut answers = match instance.fact("DB_KIND") {
        "postgres" => postgres(instance)?,
        "mariadb" => mariadb(instance)?,
        "sqlite" => sqlite(instance)?,
        other => return Err(format!("no such kind of database: {other:?}")),
    };
    if instance.containers()?.iter().any(|container| service_of(container) == "redis") {
        answers
            .insert("redis: keys and values".to_owned(), instance.exec("redis", &["redis-cli", "EVAL", REDIS, "0"])?);
    }
    if answers.len() < 5 {
        return Err(format!("only {} answers: too little to compare", answers.len()));
    }
    Ok(answers)
}

fn service_of(container: &serde_json::Value) -> &str {
    container["Config"]["Labels"]["com.docker.compose.service"].as_str().unwrap_or_default()
}

/// Every key with its value, in an order that does not depend on how it is kept in memory.
const REDIS: &str = "local out = {} local keys = redis.call('KEYS', '*') table.sort(keys) \
    for _, key in ipairs(keys) do local kind = redis.call('TYPE', key).ok local v \
      if kind == 'string' then v = redis.call('GET', key) \
      elseif kind == 'list' then v = table.concat(redis.call('LRANGE', key, 0, -1), ',') \
      elseif kind == 'set' then v = redis.call('SMEMBERS', key) table.sort(v) v = table.concat(v, ',') \
      elseif kind == 'hash' then local h = redis.call('HGETALL', key) local p = {} \
        for i = 1, #h, 2 do p[#p + 1] = h[i] .. '=' .. h[i + 1] end table.sort(p) v = table.concat(p, ',') \
      else v = redis.sha1hex(redis.call('DUMP', key)) end \
      out[#out + 1] = key .. ' ' .. kind .. ' ' .. redis.call('TTL', key) .. ' ' .. redis.sha1hex(v) end \
    return #keys .. ' keys ' .. redis.sha1hex(table.concat(out, '\\n'))";

/// What PostgreSQL says of a database beside the rows.
const POSTGRES: [(&str, &str); 12] = [
    (
        "columns",
        "SELECT table_schema, table_name, column_name, data_type, column_default, is_nullable, is_identity FROM information_schema.columns WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2, ordinal_position",
    ),
    (
        "relations",
        "SELECT n.nspname, c.relname, c.relkind, pg_get_userbyid(c.relowner), c.relacl FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_|information_schema' ORDER BY 1, 2",
    ),
    (
        "schemas",
        "SELECT nspname, pg_get_userbyid(nspowner), nspacl FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1",
    ),
    (
        "constraints",
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid > 16383 ORDER BY 1, 2",
    ),
    (
        "indexes",
        "SELECT schemaname, indexname, indexdef FROM pg_indexes WHERE schemaname NOT IN ('pg_catalog') ORDER BY 1, 2",
    ),
    (
        "views",
        "SELECT schemaname, viewname, definition FROM pg_views WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2",
    ),
    ("sequences", "SELECT schemaname, sequencename, last_value, increment_by FROM pg_sequences ORDER BY 1, 2"),
    (
        "functions",
        "SELECT p.proname, pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname !~ '^pg_|information_schema' ORDER BY 1, 2",
    ),
    (
        "triggers",
        "SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2",
    ),
    (
        "enums and comments",
        "SELECT enumtypid::regtype::text, enumlabel FROM pg_enum UNION ALL SELECT objoid::regclass::text, description FROM pg_description WHERE classoid = 'pg_class'::regclass AND objoid > 16383 ORDER BY 1, 2",
    ),
    (
        "roles",
        "SELECT a.rolname, a.rolsuper, a.rolinherit, a.rolcreaterole, a.rolcreatedb, a.rolcanlogin, a.rolreplication, a.rolpassword, ARRAY(SELECT pg_get_userbyid(roleid) FROM pg_auth_members m WHERE m.member = a.oid ORDER BY 1) FROM pg_authid a WHERE a.rolname !~ '^pg_' ORDER BY 1",
    ),
    (
        "databases",
        "SELECT datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datacl FROM pg_database ORDER BY 1",
    ),
];

fn postgres(instance: &Instance) -> Result<Answers, String> {
    let service = instance.fact("DB_SERVICE");
    let user = instance.exec(service, &["printenv", "POSTGRES_USER"])?;
    let mut answers = Answers::new();
    for database in instance.fact("DB_NAMES").split_whitespace() {
        let ask = |sql: &str| {
            instance.exec(
                service,
                &["psql", "-XtAq", "-v", "ON_ERROR_STOP=1", "-U", user.trim(), "-d", database, "-c", sql],
            )
        };
        for (what, sql) in POSTGRES {
            answers.insert(format!("{database}: {what}"), ask(sql)?);
        }
        let tables = ask("SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
            UNION SELECT quote_ident(schemaname) || '.' || quote_ident(matviewname) FROM pg_matviews ORDER BY 1")?;
        for table in tables.lines() {
            let rows = ask(&format!(
                "SELECT count(*), md5(string_agg(md5(t::text), ',' ORDER BY md5(t::text))) FROM {table} t"
            ))?;
            answers.insert(format!("{database}: rows of {table}"), rows);
        }
    }
    Ok(answers)
}

/// What MariaDB says of a database beside the rows.
const MARIADB: [(&str, &str); 7] = [
    (
        "columns",
        "SELECT table_name, column_name, column_type, column_default, is_nullable, extra, collation_name FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY 1, ordinal_position",
    ),
    (
        "tables",
        "SELECT table_name, engine, auto_increment, table_collation, table_comment FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1",
    ),
    (
        "keys",
        "SELECT table_name, index_name, seq_in_index, column_name, non_unique FROM information_schema.statistics WHERE table_schema = DATABASE() ORDER BY 1, 2, 3",
    ),
    (
        "foreign keys",
        "SELECT constraint_name, table_name, referenced_table_name, delete_rule FROM information_schema.referential_constraints WHERE constraint_schema = DATABASE() ORDER BY 1, 2",
    ),
    (
        "views",
        "SELECT table_name, view_definition, definer, security_type FROM information_schema.views WHERE table_schema = DATABASE() ORDER BY 1",
    ),
    (
        "routines and triggers",
        "SELECT routine_name, routine_definition, definer FROM information_schema.routines WHERE routine_schema = DATABASE() UNION ALL SELECT trigger_name, action_statement, definer FROM information_schema.triggers WHERE trigger_schema = DATABASE() ORDER BY 1",
    ),
    (
        "events",
        "SELECT event_name, event_definition, definer, interval_value, interval_field, starts, status FROM information_schema.events WHERE event_schema = DATABASE() ORDER BY 1",
    ),
];

fn mariadb(instance: &Instance) -> Result<Answers, String> {
    let service = instance.fact("DB_SERVICE");
    // The password is in the container's environment and goes to the client by its own variable.
    let client = "MYSQL_PWD=$MARIADB_ROOT_PASSWORD exec mariadb -uroot -N --batch \"$@\"";
    let ask = |database: &str, sql: &str| {
        instance.exec(service, &["bash", "-c", client, "mariadb", "-D", database, "-e", sql])
    };
    let mut answers = Answers::new();
    for database in instance.fact("DB_NAMES").split_whitespace() {
        for (what, sql) in MARIADB {
            answers.insert(format!("{database}: {what}"), ask(database, sql)?);
        }
        let tables = ask(
            database,
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'",
        )?;
        for table in tables.lines() {
            let rows = sorted(&ask(database, &format!("SELECT * FROM `{table}`"))?);
            let digest = format!("{} rows {}", rows.lines().count(), blake3::hash(rows.as_bytes()));
            answers.insert(format!("{database}: rows of {table}"), digest);
        }
    }
    let users = ask("mysql", "SELECT user, host, plugin, authentication_string FROM mysql.user ORDER BY 1, 2")?;
    for line in users.lines() {
        let mut words = line.split('\t');
        let account = format!("'{}'@'{}'", words.next().unwrap_or_default(), words.next().unwrap_or_default());
        answers.insert(format!("grants of {account}"), ask("mysql", &format!("SHOW GRANTS FOR {account}"))?);
    }
    answers.insert("users".to_owned(), users);
    Ok(answers)
}

fn sorted(rows: &str) -> String {
    let mut lines: Vec<&str> = rows.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn sqlite(instance: &Instance) -> Result<Answers, String> {
    let file = instance.dir().join(instance.fact("DB_FILE"));
    let ask = |sql: &str| {
        let mut command = Command::new("sqlite3");
        command.arg("-readonly").arg(&file).arg(sql).stdin(Stdio::null());
        Ok::<String, String>(run(command, WATCHDOG)?.expect(&[0])?.stdout)
    };
    let mut answers = Answers::new();
    answers.insert("schema".to_owned(), ask("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2")?);
    answers.insert("integrity".to_owned(), ask("PRAGMA integrity_check")?);
    for pragma in ["user_version", "application_id", "journal_mode", "page_size", "encoding"] {
        answers.insert(pragma.to_owned(), ask(&format!("PRAGMA {pragma}"))?);
    }
    for table in ask("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1")?.lines() {
        let rows = ask(&format!("SELECT * FROM \"{table}\" ORDER BY rowid"))?;
        answers.insert(
            format!("rows of {table}"),
            format!("{} rows {}", rows.lines().count(), blake3::hash(rows.as_bytes())),
        );
    }
    Ok(answers)
}
