//! `snap replicate`: its arguments, its calls, its answers.

use super::exit::Purpose;
use super::exit::{Exit, exit_of, hint_of};
use super::render::Output;
use super::text::{self, Style};
use super::watch::noted;
use crate::commands::replicas::drop_replica;
use crate::commands::replicate::{Replica, Target, replicate, targets};
use crate::commands::runnable::word;
use crate::commands::settings::{self, parse_bytes};
use crate::commands::{Env, Error, Result};
use crate::repo::replicate::ReplicateOptions;
use crate::repo::sync::{Chain, about};
use clap::Args;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

pub(super) const HELP: &str = "Examples: snap replicate /mnt/usb/snap · snap replicate s3://vault/clinic · snap replicate --all --verify\n\
        It needs no key. The copy is a repository of its own: snap restore --repo COPY. What is forgotten and pruned \
        here stays there, and what is damaged here does not come over.\n\
        With --all each replica has its line, and the worst of them gives the exit code.\n\
        Exit codes: 0 the copy has everything · 1 it could not be written · 2 another repository or something else is \
        there · 4 something is damaged, here or there; everything else was copied · 130 interrupted, the next run goes on";

/// See [`super::args::Command::Replicate`].
#[derive(Debug, Args)]
pub struct ReplicateArgs {
    /// Where to: a folder, s3://BUCKET/PREFIX, or the name of a [replica.NAME] in snap.toml
    #[arg(value_name = "PLACE")]
    pub to: Option<String>,
    /// To all replicas of snap.toml
    #[arg(long, conflicts_with = "to")]
    pub all: bool,
    /// Read back what was copied, and prove keys and config there
    #[arg(long)]
    pub verify: bool,
    /// At most so much a second (500KB, 5MB)
    #[arg(long, value_name = "AMOUNT")]
    pub limit: Option<String>,
    /// Copy nothing: let snap status forget this replica; what is there stays
    #[arg(long, requires = "to", conflicts_with_all = ["verify", "limit"])]
    pub drop: bool,
}

/// One place's part of the answer.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Entry {
    Done(Box<Replica>),
    Failed { name: String, address: String, error: Failure },
}

/// As in the document of a command that fails whole.
#[derive(Debug, Serialize)]
struct Failure {
    message: String,
    hint: Option<String>,
    exit_code: u8,
}

pub(super) fn run(env: &Env, args: &ReplicateArgs, output: Output) -> Result<Exit> {
    if let Some(text) = args.to.as_deref().filter(|_| args.drop) {
        return dropped(env, text, output);
    }
    let settings = settings::read(Path::new("."))?;
    let targets = targets(env, &settings, args.to.as_deref(), args.all)?;
    let bytes_per_second = args.limit.as_deref().map(parse_bytes).transpose()?;
    let options = ReplicateOptions { verify: args.verify, bytes_per_second, ..ReplicateOptions::default() };
    let (mut entries, mut exit, mut failures) = (Vec::new(), Exit::Done, Vec::new());
    for target in &targets {
        let begun = jiff::Timestamp::now().as_second();
        let result = replicate(env, target, &options);
        let code = match &result {
            Ok(replica) if replica.report.is_damaged() => Exit::Damage,
            Ok(_) => Exit::Done,
            Err(error) => exit_of(error),
        };
        // One that nobody has named in snap.toml and that cannot be one was a slip of somebody's fingers.
        if !args.all && (target.named || code != Exit::Usage) {
            env.about.set(&target.name, None);
        }
        let message = result.as_ref().err().map_or_else(|| code.words().to_owned(), |error| Chain(error).to_string());
        if args.all {
            noted(env, "replicate", &target.name, begun, code, message.clone());
        }
        if code != Exit::Done {
            failures.push(format!("{}: {message}", target.name));
        }
        exit = if severity(code) > severity(exit) { code } else { exit };
        match result {
            Ok(replica) => entries.push(Entry::Done(Box::new(replica))),
            Err(error) if !args.all => return Err(error),
            // One that cannot be reached keeps no other one behind.
            Err(error) => entries.push(failed(target, &error, message, code)),
        }
        if code == Exit::Interrupted {
            break;
        }
    }
    if args.all {
        env.about.say(failures.join("; "));
    }
    Ok(output.give(&entries, exit, |out, style| entries.iter().for_each(|one| entry_text(out, style, one))))
}

fn failed(target: &Target, error: &Error, message: String, exit: Exit) -> Entry {
    let hint = hint_of(error, Purpose::Other).map(|hint| text::runnable(&hint));
    let error = Failure { message, hint, exit_code: exit as u8 };
    Entry::Failed { name: target.name.clone(), address: target.address.clone(), error }
}

/// Of several endings the one with the greatest number counts.
fn severity(exit: Exit) -> u8 {
    match exit {
        Exit::Done => 0,
        Exit::Incomplete | Exit::InTheWay => 1,
        Exit::Usage => 2,
        Exit::Failed => 3,
        Exit::NoRepository | Exit::WrongKey => 4,
        Exit::Damage | Exit::PutBack | Exit::NeedsPerson => 5,
        Exit::Interrupted => 6,
    }
}

fn dropped(env: &Env, text: &str, output: Output) -> Result<Exit> {
    let gone = drop_replica(env, text)?;
    let document = serde_json::json!({ "dropped": gone });
    Ok(output.give(&document, Exit::Done, |out, style| {
        for address in &gone {
            let _ = writeln!(out, "{} {address} is dropped from snap status; what is there stays", style.good("✓"));
        }
        if gone.is_empty() {
            let _ = writeln!(out, "no replica “{text}” was remembered");
        }
    }))
}

fn entry_text(out: &mut String, style: Style, entry: &Entry) {
    match entry {
        Entry::Done(replica) => replica_text(out, style, replica),
        Entry::Failed { name, error, .. } => {
            let _ = writeln!(out, "{} {name}: {}", style.bad("✗"), error.message);
            if let Some(hint) = &error.hint {
                let _ = writeln!(out, "  {hint}");
            }
        }
    }
}

fn replica_text(out: &mut String, style: Style, replica: &Replica) {
    let report = &replica.report;
    for one in &report.damaged {
        let what = about(&one.object, &one.message);
        let _ = writeln!(out, "{}: {what}; it was not copied", style.bad("damage here"));
    }
    for one in &report.replica_damaged {
        let _ = writeln!(out, "{}: {}", style.bad("damage there"), about(&one.object, &one.message));
    }
    for name in &report.keys_differ {
        let _ = writeln!(out, "{}: the key “{name}” is another one there, and was left as it is", style.warn("note"));
    }
    let copied = match report.objects {
        0 => "nothing was new".to_owned(),
        objects => {
            let snapshots = text::count(report.snapshots, "snapshot", "snapshots");
            let objects = text::count(objects, "object", "objects");
            let verified = if report.verified > 0 { ", read back" } else { "" };
            format!("{snapshots} copied in {objects}, {}{verified}", text::bytes(report.bytes))
        }
    };
    let has = text::count(report.replica_snapshots, "snapshot", "snapshots");
    let mark = if report.is_damaged() { style.bad("✗") } else { style.good("✓") };
    let _ = writeln!(out, "{mark} {} has {has} · {copied}", replica.name);
    if let (Some(here), Some(there)) = (&replica.newest_here, &replica.newest_there) {
        let (newest, same) = (text::local_time(here), here == there);
        let there = if same { "the same".to_owned() } else { text::local_time(there) };
        let _ = writeln!(out, "  newest here {newest}, newest there {there}");
    }
    if report.left_out > 0 {
        let left = text::count(report.left_out, "snapshot that is here was", "snapshots that are here were");
        let _ = writeln!(out, "  {left} removed there by its own retention, and not copied again");
    }
    if report.behind > 0 {
        let behind = text::count(report.behind, "snapshot", "snapshots");
        let _ = writeln!(out, "  it lacks {behind} that are here   ← {}", text::runnable("snap check --read-data"));
    }
    remedies(out, style, replica);
}

fn remedies(out: &mut String, style: Style, replica: &Replica) {
    if replica.only_there > 0 {
        let count = text::count(replica.only_there, "snapshot that is", "snapshots that are");
        let newest = replica.newest_only_there.as_deref().map(text::local_time);
        let newest = newest.map_or_else(String::new, |time| format!(", the newest from {time}"));
        let message = format!("the replica has {count} not here{newest}: this repository may be an old copy");
        let _ = writeln!(out, "  {}", style.warn(&message));
    }
    // Nothing that is there is ever replaced by a replication.
    let (there, here) = (word(&replica.address), word(&replica.repository));
    if !replica.report.replica_damaged.is_empty() {
        let command = text::runnable(&format!("snap repair --repo {there} --from {here}"));
        let _ = writeln!(out, "  to mend what is damaged there:  {command}");
    }
    if !replica.report.damaged.is_empty() {
        let command = text::runnable("snap repair --from REPLICA");
        let _ = writeln!(out, "  what another replica still has whole comes back here from it:  {command}");
    }
}
