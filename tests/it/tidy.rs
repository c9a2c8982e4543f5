//! Holds the code to the shape that docs/ARCHITECTURE.md draws: layers, sizes, no surprise exits,
//! and documents that name only what exists. Every rule is first shown to find what it forbids.

use super::source::{Source, idents_after};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A file holds at most this many lines outside its tests.
const FILE_LINES_MAX: usize = 400;
/// A function holds at most this many lines.
const FUNCTION_LINES_MAX: usize = 70;

/// The layers, from the top. A module uses what stands in a later group, and itself.
const LAYERS: [&[&str]; 9] = [
    &["cli"],
    &["commands"],
    &["stack"],
    &["repo"],
    &["catalog"],
    &["pack"],
    &["chunk"],
    &["store", "crypto", "docker", "web"],
    BASE,
];
/// What all layers need; these may use each other.
const BASE: &[&str] = &["id", "limits", "monitor", "fs", "amount"];

/// A rule says what is wrong with one file, each with its line.
type Rule = fn(&Source) -> Vec<(usize, String)>;

const RULES: [Rule; 7] = [
    opens_with_its_story,
    keeps_the_layers,
    uses_no_glob_of_the_crate,
    only_cli_prints,
    never_gives_up,
    is_short,
    has_short_functions,
];

#[test]
fn the_sources_are_tidy() {
    let mut wrong = Vec::new();
    for path in rust_files() {
        let source = Source::read(&root(), &path);
        for rule in RULES {
            wrong.extend(rule(&source).into_iter().map(|(line, text)| format!("{}:{line}: {text}", source.path)));
        }
    }
    assert!(wrong.is_empty(), "{} untidy places:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn documents_name_only_what_exists() {
    let mut wrong = Vec::new();
    let mut documents = files_under(&root().join("docs"), "md");
    documents.push(root().join("README.md"));
    for path in documents.iter().filter(|path| path.is_file()) {
        let text = std::fs::read_to_string(path).expect("a document");
        for (line, named) in paths_in_document(&text) {
            if !root().join(&named).exists() {
                wrong.push(format!("{}:{line}: names {named}, which does not exist", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_test_file_is_forgotten() {
    let main = std::fs::read_to_string(root().join("tests/it/main.rs")).expect("tests/it/main.rs");
    let names = files_under(&root().join("tests/it"), "rs").into_iter().filter_map(|path| {
        let name = path.strip_prefix(root().join("tests/it")).ok()?.with_extension("").to_str()?.to_owned();
        (name != "main" && !name.contains('/')).then_some(name)
    });
    let forgotten: Vec<String> = forgotten_modules(&main, names);
    assert!(forgotten.is_empty(), "tests/it/main.rs has no `mod` for {forgotten:?}");
}

fn forgotten_modules(main: &str, names: impl Iterator<Item = String>) -> Vec<String> {
    let known: BTreeSet<&str> = main
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    names.filter(|name| !known.contains(name.as_str())).collect()
}

fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

fn rust_files() -> Vec<PathBuf> {
    ["src", "tests", "benches"].iter().flat_map(|folder| files_under(&root().join(folder), "rs")).collect()
}

fn files_under(dir: &Path, extension: &str) -> Vec<PathBuf> {
    if !dir.is_dir() {
        return Vec::new();
    }
    let below = super::compare::paths(dir).into_iter().map(|path| dir.join(path));
    below.filter(|path| path.is_file() && path.extension().is_some_and(|found| found == extension)).collect()
}

fn opens_with_its_story(source: &Source) -> Vec<(usize, String)> {
    if source.text.starts_with("//!") {
        Vec::new()
    } else {
        vec![(1, "does not start with a `//!` comment".to_owned())]
    }
}

fn keeps_the_layers(source: &Source) -> Vec<(usize, String)> {
    let mut wrong = Vec::new();
    for (line, to) in source.crate_modules() {
        let known = LAYERS.iter().any(|layer| layer.contains(&to.as_str()));
        match source.top_module() {
            // The crate's root names every layer; the program's root only the topmost.
            None => {}
            Some(_) if !known => {
                // An item of the crate's root would be above everything: only modules are below.
                wrong.push((line, format!("crate::{to} is in no layer (see LAYERS in tests/it/tidy.rs)")));
            }
            Some(from) if !may_use(from, &to) => wrong.push((line, format!("{from} may not use {to}"))),
            Some(_) => {}
        }
    }
    if let Some(from) = source.top_module().filter(|from| !LAYERS.iter().any(|layer| layer.contains(from))) {
        wrong.push((1, format!("{from} is in no layer (see LAYERS in tests/it/tidy.rs)")));
    }
    wrong
}

fn may_use(from: &str, to: &str) -> bool {
    let rank = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    from == to || rank(from) < rank(to) || (BASE.contains(&from) && BASE.contains(&to))
}

fn uses_no_glob_of_the_crate(source: &Source) -> Vec<(usize, String)> {
    source
        .find_words(&["crate::*"])
        .into_iter()
        .map(|(line, _)| (line, "`use crate::*` hides what is used".to_owned()))
        .collect()
}

fn only_cli_prints(source: &Source) -> Vec<(usize, String)> {
    if !source.is_program() {
        return Vec::new();
    }
    let at_the_edge = source.path == "src/main.rs" || source.top_module() == Some("cli");
    let mut wrong = Vec::new();
    if !at_the_edge {
        let printing = ["println!", "eprintln!", "print!", "eprint!", "io::stdout(", "io::stderr(", "process::exit("];
        for (line, word) in source.find_words(&printing) {
            wrong.push((line, format!("{word} outside cli: only cli prints and ends the program")));
        }
        wrong.extend(
            source
                .find_words(&["clap::", "use clap;"])
                .into_iter()
                .map(|(line, _)| (line, "clap outside cli".to_owned())),
        );
    }
    if !matches!(source.top_module(), Some("store" | "docker")) {
        wrong.extend(
            source.find_words(&["tokio::", ".await", "async fn"]).into_iter().map(|(line, word)| {
                (line, format!("{word} outside store and docker: what is above them is synchronous"))
            }),
        );
    }
    wrong
}

fn never_gives_up(source: &Source) -> Vec<(usize, String)> {
    if !source.is_program() {
        return Vec::new();
    }
    let forbidden = [".unwrap()", ".expect(", "panic!", "todo!", "unimplemented!", "dbg!"];
    let found = source.find_words(&forbidden).into_iter();
    found.map(|(line, word)| (line, format!("{word} outside tests: return an error"))).collect()
}

fn is_short(source: &Source) -> Vec<(usize, String)> {
    let lines = source.lines_outside_tests();
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![(1, format!("{lines} lines outside tests, at most {FILE_LINES_MAX} are good to read"))]
}

fn has_short_functions(source: &Source) -> Vec<(usize, String)> {
    let long = source.functions().into_iter().filter(|(_, _, lines)| *lines > FUNCTION_LINES_MAX);
    long.map(|(line, name, lines)| {
        (line, format!("fn {name} has {lines} lines, at most {FUNCTION_LINES_MAX} are good to read"))
    })
    .collect()
}

/// The paths of this project that a document names between backticks, with their lines. Blocks of
/// code are examples and may name anything. A pattern counts as the folder that it is in.
fn paths_in_document(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_block = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        }
        if in_block {
            continue;
        }
        for quoted in line.split('`').skip(1).step_by(2) {
            if let Some(path) = project_path(quoted) {
                found.push((number + 1, path));
            }
        }
    }
    found
}

fn project_path(quoted: &str) -> Option<String> {
    let folders = ["src/", "docs/", "tests/", "fixtures/", "benches/"];
    if !folders.iter().any(|folder| quoted.starts_with(folder)) || quoted.contains(char::is_whitespace) {
        return None;
    }
    let path = quoted.split(['#', ':']).next()?;
    let pattern = path.find(['*', '<', '{', '…', '?']).or_else(|| path.find("NAME"));
    let fixed = pattern.map_or(path, |at| &path[..path[..at].rfind('/').unwrap_or(0)]);
    Some(fixed.trim_end_matches('/').to_owned())
}

#[test]
fn each_rule_finds_what_it_forbids() {
    let long_body = "    let x = 1;\n".repeat(71);
    let cases: [(Rule, &str, &str, usize); 22] = [
        (opens_with_its_story, "src/a.rs", "use x;\n", 1),
        (keeps_the_layers, "src/store/local.rs", "//! x\nuse crate::crypto::Key;\n", 2),
        (keeps_the_layers, "src/repo/check.rs", "//! x\nuse crate::{id::ChunkId,\n stack::Plan};\n", 3),
        (keeps_the_layers, "src/pack/mod.rs", "//! x\nfn f() -> crate::repo::Entry {}\n", 2),
        (keeps_the_layers, "src/chunk/mod.rs", "//! x\nuse super::catalog::Catalog;\n", 2),
        (keeps_the_layers, "src/chunk/cut.rs", "//! x\nuse super::super::catalog::Catalog;\n", 2),
        (keeps_the_layers, "src/commands/create.rs", "//! x\nuse crate::cli::Args;\n", 2),
        (keeps_the_layers, "src/commands/create.rs", "//! x\nuse crate::Everything;\n", 2),
        (keeps_the_layers, "src/other/create.rs", "//! x\n", 1),
        (uses_no_glob_of_the_crate, "src/repo/x.rs", "//! x\nuse crate::*;\n", 2),
        (only_cli_prints, "src/commands/list.rs", "//! x\nfn f() { println!(\"x\"); }\n", 2),
        (only_cli_prints, "src/repo/x.rs", "//! x\nuse std::io;\nfn f() { let s = io::stdout(); }\n", 3),
        (only_cli_prints, "src/commands/list.rs", "//! x\nuse clap::Parser;\n", 2),
        (only_cli_prints, "src/repo/x.rs", "//! x\nasync fn f() {}\n", 2),
        (never_gives_up, "src/repo/x.rs", "//! x\nfn f() {\n  g().unwrap();\n}\n", 3),
        (never_gives_up, "src/repo/x.rs", "//! x\nfn f() {\n  g()\n  .expect(\"x\");\n}\n", 4),
        (never_gives_up, "src/main.rs", "//! x\nfn main() { panic!(\"x\") }\n", 2),
        (never_gives_up, "src/x.rs", "//! x\n#[cfg(test)]\nmod tests { fn f() { todo!() } }\nfn g() { todo!() }\n", 4),
        (never_gives_up, "src/x.rs", "//! x\nfn f() { let c = '\"'; g().unwrap(); let d = '\"'; }\n", 2),
        (is_short, "src/x.rs", &"//! x\n".repeat(401), 1),
        (has_short_functions, "src/x.rs", &format!("//! x\n\npub fn long(x: &str) -> u8 {{\n{long_body}}}\n"), 3),
        (
            has_short_functions,
            "tests/it/x.rs",
            &format!("//! x\nfn long<'a>(c: char)\nwhere char: Eq {{\n{long_body}}}\n"),
            2,
        ),
    ];
    for (i, (rule, path, text, line)) in cases.iter().enumerate() {
        let found = rule(&Source::new(path, text));
        assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [*line], "case {i}: {text}\n{found:?}");
    }
}

#[test]
fn no_rule_forbids_what_is_good() {
    let good = "//! Says `panic!` and crate::cli in words.\n\
        use crate::id::ChunkId; // unlike crate::stack\n\
        use super::key::{self, Key};\n\
        /* nested /* .unwrap() */ comment */\n\
        fn f<'a>(x: &'a str) -> Option<&'a str> {\n\
            let s = \"println!(\\\"x\\\") .unwrap() {\"; let r = r#\"todo!() \" } \"#;\n\
            let c = '{'; let q = '\\''; let b = b'\"';\n\
            x.parse().unwrap_or(1); g(s, r, c, q, b)\n\
        }\n\
        #[cfg(test)]\n\
        mod tests {\n\
            use super::*;\n\
            #[test]\n\
            fn t() { f(\"{\").unwrap(); panic!(\"}\"); println!(); }\n\
        }\n";
    for path in ["src/store/local.rs", "src/repo/x.rs", "src/pack/writer.rs"] {
        for rule in RULES {
            assert_eq!(rule(&Source::new(path, good)), [], "{path}");
        }
    }
    assert_eq!(keeps_the_layers(&Source::new("src/cli/mod.rs", "//! x\nuse crate::commands::create;\n")), []);
    assert_eq!(keeps_the_layers(&Source::new("src/lib.rs", "//! x\npub use crate::cli::run;\n")), []);
    assert_eq!(never_gives_up(&Source::new("src/catalog/tests.rs", "//! x\nfn f() { g().unwrap(); }\n")), []);
    assert_eq!(keeps_the_layers(&Source::new("src/store/tests/x.rs", "//! x\nuse crate::crypto::Key;\n")), []);
    assert_eq!(only_cli_prints(&Source::new("src/cli/render.rs", "//! x\nfn f() { println!(); }\n")), []);
    assert_eq!(
        is_short(&Source::new("src/x.rs", &format!("//! x\n#[cfg(test)]\nmod t {{\n{}}}\n", "// x\n".repeat(500)))),
        []
    );
}

#[test]
fn paths_and_modules_are_read_rightly() {
    let text = "See `src/pack/mod.rs` and `tests/it/tidy.rs:12`, `fixtures/repos/*/config`, not `src` or `a/b`.\n\
        ```\n`src/not/there.rs`\n```\nand `docs/x.md#part`\n";
    let found: Vec<(usize, String)> = paths_in_document(text);
    let paths: Vec<&str> = found.iter().map(|(_, path)| path.as_str()).collect();
    assert_eq!(paths, ["src/pack/mod.rs", "tests/it/tidy.rs", "fixtures/repos", "docs/x.md"]);
    assert_eq!(found[3].0, 5);
    let names = ["tidy", "gone"].map(str::to_owned);
    assert_eq!(forgotten_modules("//! x\nmod tidy;\n// mod gone;\n", names.into_iter()), ["gone"]);
    assert_eq!(idents_after("{id::{A, B}, fs, self::x::Y as Z}"), ["id", "fs", "self"]);
}
