//! Which statements of a PostgreSQL dump make one table: the table, its owner, sequences, defaults, then, after its rows,
//! keys, indexes, triggers, policies, comments and grants, and the foreign keys of other tables that referred to it.
//!
//! Statements are known by how they begin, as `pg_dump` writes them, with every name in full. What other things were made
//! of the table (views, functions) is not among them.

use super::postgresql_table::literal;
use std::collections::BTreeSet;

/// A name with its schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    /// The schema.
    pub schema: String,
    /// The name in it.
    pub name: String,
}

/// What is said before and after the rows of `table`; its rows come after the first `split` of `all` statements.
///
/// # Errors
/// The dump does not make the table, or by statements that are not understood.
pub(super) fn chosen(all: &[Vec<u8>], split: usize, table: &Name) -> Result<(Vec<u8>, Vec<u8>), String> {
    let lines: Vec<Vec<Token>> = all.iter().map(|text| tokens(&String::from_utf8_lossy(text))).collect();
    let mut own = Own { table: table.clone(), parts: BTreeSet::new() };
    lines.iter().for_each(|line| own.learn(line));
    let (mut before, mut after, mut last) = (Vec::new(), Vec::new(), Vec::new());
    let mut is_made = false;
    for (number, (text, line)) in all.iter().zip(&lines).enumerate() {
        let Some(use_) = own.judge(line) else { continue };
        if !text.ends_with(b";") || (matches(line, 0, &["CREATE", "RULE"]) && !is_balanced(line)) {
            return Err("a statement of its dump is not understood: it comes back with its database".to_owned());
        }
        is_made |= use_ == Use::Make;
        let place = match use_ {
            Use::Attach => &mut last,
            _ if number < split => &mut before,
            _ => &mut after,
        };
        match use_ {
            Use::Foreign { child, constraint } => place.extend(guarded(text, &child, &constraint)),
            _ => place.extend_from_slice(text),
        }
        place.push(b'\n');
    }
    after.append(&mut last);
    if is_made { Ok((before, after)) } else { Err("its dump does not say how it is made".to_owned()) }
}

/// A foreign key of another table comes back where that table is and has lost it.
fn guarded(text: &[u8], child: &Name, constraint: &str) -> Vec<u8> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let there = literal(&format!("{}.{}", quoted(&child.schema), quoted(&child.name)));
    format!(
        "DO $snap_restore$ BEGIN IF to_regclass({there}) IS NOT NULL AND NOT EXISTS (SELECT FROM pg_constraint WHERE \
         conrelid = to_regclass({there}) AND conname = {}) THEN EXECUTE {}; END IF; END $snap_restore$;",
        literal(constraint),
        literal(String::from_utf8_lossy(text).trim_end_matches(';'))
    )
    .into_bytes()
}

/// What a statement is for.
#[derive(Debug, PartialEq, Eq)]
enum Use {
    /// It makes the table.
    Make,
    /// It adds to it.
    Add,
    /// It makes it, or an index of it, a part of another: all that it has must be there.
    Attach,
    /// It is a foreign key of another table.
    Foreign { child: Name, constraint: String },
}

/// The table and what is its own: sequences, indexes, constraints, statistics.
struct Own {
    table: Name,
    parts: BTreeSet<Name>,
}

impl Own {
    fn is_table(&self, line: &[Token], at: usize) -> bool {
        qualified(line, at).is_some_and(|(name, _)| name == self.table)
    }

    fn is_part(&self, line: &[Token], at: usize) -> bool {
        qualified(line, at).is_some_and(|(name, _)| self.parts.contains(&name))
    }

    /// Keeps the names of what is the table's own.
    fn learn(&mut self, line: &[Token]) {
        let beside = |name: &str| Name { schema: self.table.schema.clone(), name: name.to_owned() };
        let part = if matches(line, 0, &["ALTER", "SEQUENCE"]) {
            let owned = after(line, &["OWNED", "BY"]).is_some_and(|at| self.is_table(line, at));
            qualified(line, 2).filter(|_| owned).map(|(name, _)| name)
        } else if altered(line).is_some_and(|at| self.is_table(line, at)) {
            match after(line, &["SEQUENCE", "NAME"]) {
                Some(at) => qualified(line, at).map(|(name, _)| name),
                None => after(line, &["ADD", "CONSTRAINT"]).and_then(|at| word(line, at)).map(beside),
            }
        } else if index_of(line).is_some_and(|at| self.is_table(line, at)) {
            after(line, &["INDEX"]).and_then(|at| word(line, at)).map(beside)
        } else if matches(line, 0, &["CREATE", "STATISTICS"]) {
            let of = line.iter().rposition(|token| token.is("FROM")).is_some_and(|at| self.is_table(line, at + 1));
            qualified(line, 2).filter(|_| of).map(|(name, _)| name)
        } else {
            None
        };
        self.parts.extend(part);
    }

    /// What the statement is for; `None` if it is not about the table.
    fn judge(&self, line: &[Token]) -> Option<Use> {
        let when = |is: bool| is.then_some(Use::Add);
        let first = line.first().and_then(Token::word)?;
        let second = line.get(1).and_then(Token::word).unwrap_or_default();
        match (first, second) {
            ("CREATE", "TABLE") => self.is_table(line, 2).then_some(Use::Make),
            ("CREATE", "UNLOGGED") => self.is_table(line, 3).then_some(Use::Make),
            ("CREATE", "SEQUENCE" | "STATISTICS") => when(self.is_part(line, 2)),
            ("CREATE", "INDEX" | "UNIQUE") => when(index_of(line).is_some_and(|at| self.is_table(line, at))),
            ("CREATE", "TRIGGER" | "CONSTRAINT" | "POLICY") => when(self.is_after(line, "ON")),
            ("CREATE", "RULE") => when(self.is_after(line, "TO")),
            ("ALTER", "TABLE") => self.judge_altered(line),
            ("ALTER", "SEQUENCE" | "STATISTICS") => when(self.is_part(line, 2)),
            ("ALTER", "INDEX") => {
                after(line, &["ATTACH", "PARTITION"]).filter(|at| self.is_part(line, *at)).map(|_| Use::Attach)
            }
            ("ALTER", "PUBLICATION") => {
                let at = after(line, &["ADD", "TABLE"])?;
                when(self.is_table(line, at + usize::from(line.get(at).is_some_and(|token| token.is("ONLY")))))
            }
            ("COMMENT", "ON") => when(self.is_commented(line)),
            ("GRANT" | "REVOKE", _) => {
                let on = |what: &str| after(line, &["ON", what]);
                when(
                    on("TABLE").is_some_and(|at| self.is_table(line, at))
                        || on("SEQUENCE").is_some_and(|at| self.is_part(line, at)),
                )
            }
            ("SELECT", "pg_catalog") if line.get(3).is_some_and(|token| token.is("setval")) => match line.get(5) {
                Some(Token::Text(name)) => when(self.is_part(&tokens(name), 0)),
                _ => None,
            },
            ("SET", setting) => when(setting.starts_with("default_")),
            _ => None,
        }
    }

    /// The first word `word` is followed by the table.
    fn is_after(&self, line: &[Token], word: &str) -> bool {
        after(line, &[word]).is_some_and(|at| self.is_table(line, at))
    }

    fn judge_altered(&self, line: &[Token]) -> Option<Use> {
        let at = altered(line)?;
        let (subject, next) = qualified(line, at)?;
        let attached = after(line, &["ATTACH", "PARTITION"]);
        if attached.is_some_and(|at| self.is_table(line, at)) {
            return Some(Use::Attach);
        }
        if subject == self.table || self.parts.contains(&subject) {
            return Some(Use::Add);
        }
        let constraint = word(line, after(&line[next..], &["ADD", "CONSTRAINT"])? + next)?;
        let refers = after(line, &["FOREIGN", "KEY"]).and_then(|at| Some(at + after(&line[at..], &["REFERENCES"])?))?;
        self.is_table(line, refers).then(|| Use::Foreign { child: subject, constraint: constraint.to_owned() })
    }

    fn is_commented(&self, line: &[Token]) -> bool {
        match line.get(2).and_then(Token::word).unwrap_or_default() {
            "TABLE" | "COLUMN" => self.is_table(line, 3),
            "INDEX" | "SEQUENCE" | "STATISTICS" => self.is_part(line, 3),
            "CONSTRAINT" | "TRIGGER" | "POLICY" | "RULE" => self.is_table(line, 5),
            _ => false,
        }
    }
}

/// Where the name stands in `ALTER TABLE [ONLY] name`.
fn altered(line: &[Token]) -> Option<usize> {
    let only = usize::from(line.get(2).is_some_and(|token| token.is("ONLY")));
    matches(line, 0, &["ALTER", "TABLE"]).then_some(2 + only)
}

/// Where the table stands in `CREATE [UNIQUE] INDEX name ON [ONLY] table`.
fn index_of(line: &[Token]) -> Option<usize> {
    if !matches(line, 0, &["CREATE", "INDEX"]) && !matches(line, 0, &["CREATE", "UNIQUE", "INDEX"]) {
        return None;
    }
    let at = after(line, &["ON"])?;
    Some(at + usize::from(line.get(at).is_some_and(|token| token.is("ONLY"))))
}

/// The place after the first time that `words` stand in the line.
fn after(line: &[Token], words: &[&str]) -> Option<usize> {
    (0..line.len()).find(|at| matches(line, *at, words)).map(|at| at + words.len())
}

fn matches(line: &[Token], at: usize, words: &[&str]) -> bool {
    words.iter().enumerate().all(|(number, word)| line.get(at + number).is_some_and(|token| token.is(word)))
}

fn is_balanced(line: &[Token]) -> bool {
    let count = |mark| line.iter().filter(|token| **token == Token::Mark(mark)).count();
    count('(') == count(')')
}

/// `schema.name` at a place, and the place after it.
fn qualified(line: &[Token], at: usize) -> Option<(Name, usize)> {
    let (schema, name) = (word(line, at)?, word(line, at + 2)?);
    let is_dot = line.get(at + 1) == Some(&Token::Mark('.'));
    is_dot.then(|| (Name { schema: schema.to_owned(), name: name.to_owned() }, at + 3))
}

fn word(line: &[Token], at: usize) -> Option<&str> {
    line.get(at).and_then(Token::name)
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// Without quotes.
    Word(String),
    /// In double quotes, without them.
    Name(String),
    /// In single quotes, without them.
    Text(String),
    Mark(char),
}

impl Token {
    fn word(&self) -> Option<&str> {
        if let Self::Word(text) = self { Some(text) } else { None }
    }

    fn name(&self) -> Option<&str> {
        if let Self::Word(text) | Self::Name(text) = self { Some(text) } else { None }
    }

    fn is(&self, word: &str) -> bool {
        self.word() == Some(word)
    }
}

/// The words, names, texts and marks of a statement.
fn tokens(statement: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut chars = statement.chars().peekable();
    while let Some(char) = chars.next() {
        if char.is_whitespace() {
            continue;
        }
        let escapes = char == '\'' && matches!(found.last(), Some(Token::Word(word)) if word == "E");
        if char == '"' || char == '\'' {
            let mut text = String::new();
            while let Some(next) = chars.next() {
                if next == char && chars.next_if_eq(&char).is_none() {
                    break;
                }
                text.push(if next == '\\' && escapes { chars.next().unwrap_or(next) } else { next });
            }
            found.push(if char == '"' { Token::Name(text) } else { Token::Text(text) });
        } else if char.is_alphanumeric() || char == '_' || !char.is_ascii() {
            let mut text = String::from(char);
            while let Some(next) = chars.next_if(|c| c.is_alphanumeric() || matches!(c, '_' | '$') || !c.is_ascii()) {
                text.push(next);
            }
            found.push(Token::Word(text));
        } else {
            found.push(Token::Mark(char));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &[&str] = &[
        "SET default_table_access_method = heap;",
        "CREATE TABLE public.people (\n    id integer NOT NULL,\n    name text DEFAULT 'ON public.people'::text\n);",
        "ALTER TABLE public.people OWNER TO app;",
        "CREATE TABLE public.\"people x\" (id integer);",
        "CREATE SEQUENCE public.people_id_seq AS integer;",
        "ALTER TABLE public.people_id_seq OWNER TO app;",
        "ALTER SEQUENCE public.people_id_seq OWNED BY public.people.id;",
        "CREATE SEQUENCE public.free;",
        "ALTER TABLE ONLY public.people ALTER COLUMN id SET DEFAULT nextval('public.people_id_seq'::regclass);",
        // The rows.
        "SELECT pg_catalog.setval('public.people_id_seq', 3000, true);",
        "SELECT pg_catalog.setval('public.free', 1, false);",
        "ALTER TABLE ONLY public.people ADD CONSTRAINT people_pkey PRIMARY KEY (id);",
        "ALTER TABLE ONLY public.parents ATTACH PARTITION public.people FOR VALUES IN (1);",
        "CREATE UNIQUE INDEX by_name ON public.people USING btree (name);",
        "CREATE INDEX other ON ONLY public.\"people x\" USING btree (id);",
        "ALTER INDEX public.parents_pkey ATTACH PARTITION public.people_pkey;",
        "CREATE TRIGGER t AFTER INSERT OR UPDATE OF name ON public.people FOR EACH ROW EXECUTE FUNCTION public.note();",
        "CREATE TRIGGER t AFTER INSERT ON public.visits FOR EACH ROW EXECUTE FUNCTION public.people();",
        "ALTER TABLE ONLY public.visits\n    ADD CONSTRAINT who FOREIGN KEY (who) REFERENCES public.people(id);",
        "ALTER TABLE ONLY public.visits ADD CONSTRAINT no FOREIGN KEY (who) REFERENCES public.\"people x\"(id);",
        "ALTER TABLE public.people ENABLE ROW LEVEL SECURITY;",
        "CREATE POLICY own ON public.people USING ((name = CURRENT_USER));",
        "CREATE RULE twice AS ON INSERT TO public.people DO ALSO SELECT (1);",
        "CREATE STATISTICS public.both (dependencies) ON id, name FROM public.people;",
        "COMMENT ON COLUMN public.people.name IS 'a; b';",
        "COMMENT ON INDEX public.by_name IS 'c';",
        "COMMENT ON TRIGGER t ON public.visits IS 'no';",
        "GRANT SELECT(name),INSERT ON TABLE public.people TO reader;",
        "GRANT USAGE ON SEQUENCE public.people_id_seq TO reader;",
        "GRANT ALL ON SEQUENCE public.free TO reader;",
    ];

    #[test]
    fn what_makes_a_table_is_chosen_and_nothing_else() {
        let all: Vec<Vec<u8>> = DUMP.iter().map(|text| text.as_bytes().to_vec()).collect();
        let table = Name { schema: "public".to_owned(), name: "people".to_owned() };
        let (before, after) = chosen(&all, 9, &table).unwrap();
        let (before, after) = (String::from_utf8(before).unwrap(), String::from_utf8(after).unwrap());
        assert!(!format!("{before}{after}").contains("free") && !after.contains("people x"), "{before}{after}");
        assert!(!after.contains("ON public.visits") && !after.contains("CONSTRAINT no "), "{after}");
        assert_eq!(before.matches(";\n").count(), 7, "{before}");
        for wanted in
            ["3000", "people_pkey PRIMARY", "by_name ON", "TRIGGER t", "EXECUTE 'ALTER TABLE ONLY public.visits"]
        {
            assert!(after.contains(wanted), "no {wanted} in {after}");
        }
        for wanted in
            ["LEVEL SECURITY", "POLICY own", "RULE twice", "both", "'a; b'", "INDEX public.by_name", "TO reader"]
        {
            assert!(after.contains(wanted), "no {wanted} in {after}");
        }
        let at = |text: &str| after.find(text).unwrap();
        assert!(at("by_name ON") < at("ATTACH PARTITION public.people FOR"));
        assert!(at("ATTACH PARTITION public.people FOR") < at("ATTACH PARTITION public.people_pkey"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let table = Name { schema: "public".to_owned(), name: "people".to_owned() };
        let of = |texts: &[&str]| {
            let all: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
            chosen(&all, 1, &table)
        };
        assert!(of(&["CREATE TABLE public.people (id int);"]).is_ok());
        assert!(of(&["CREATE TABLE public.people (id int)"]).is_err(), "it was too long to be kept");
        assert!(of(&["CREATE TABLE other.people (id int);"]).is_err());
        let rule = "CREATE RULE r AS ON INSERT TO public.people DO ALSO ( SELECT 1;";
        assert!(of(&["CREATE TABLE public.people (id int);", rule]).is_err(), "a rule that was cut");
    }
}
