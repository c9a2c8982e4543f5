//! Commands that are shown to a person run as they are printed: with the repository, the server and the key that
//! were named on the command line, since nothing else names them to the next command, and quoted for a shell.

/// Commands that are about a repository.
const VERBS: [&str; 17] = [
    "init",
    "create",
    "list",
    "show",
    "diff",
    "restore",
    "check",
    "repair",
    "forget",
    "undelete",
    "prune",
    "replicate",
    "status",
    "schedule",
    "log",
    "key",
    "export",
];

/// `text` as one word of a shell.
pub fn word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-:,+@%=".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// Options that were typed, and that count for further commands on the same repository too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given(Vec<(&'static str, String)>);

impl Given {
    /// Adds an option and its value.
    pub fn add(&mut self, option: &'static str, value: &str) {
        self.0.push((option, word(value)));
    }

    /// `text` with these options in each command of snap in it, but not those that it has already.
    pub fn put_into(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while !self.0.is_empty()
            && let Some(at) = command_in(rest)
        {
            let (before, command) = rest.split_at(at + "snap".len());
            let end = end_of(command);
            out.push_str(before);
            for (option, value) in self.0.iter().filter(|(option, _)| !command[..end].contains(option)) {
                out.push_str(&format!(" {option} {value}"));
            }
            out.push_str(&command[..end]);
            rest = &command[end..];
        }
        out + rest
    }
}

/// Where a command ends whose words stand first: at the next one, or at what marks its end.
fn end_of(text: &str) -> usize {
    let ends = ["`", "\n", "   "].iter().filter_map(|mark| text.find(mark)).chain(command_in(text));
    ends.min().unwrap_or(text.len())
}

/// Where the first command of snap begins.
fn command_in(text: &str) -> Option<usize> {
    let is_command = |at: &usize| {
        let before = text[..*at].chars().next_back();
        let mut words = text[at + "snap ".len()..].split(|c: char| !c.is_ascii_alphabetic());
        before.is_none_or(|c| c == ' ' || c == '`' || c == '\n')
            && words.next().is_some_and(|verb| VERBS.contains(&verb))
    };
    text.match_indices("snap ").map(|(at, _)| at).find(is_command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_take_them_apart() {
        assert_eq!(word("/mnt/größe/x-1.5"), "/mnt/größe/x-1.5");
        assert_eq!(word("a b"), "'a b'");
        assert_eq!(word("it's"), "'it'\\''s'");
        assert_eq!(word("s3://b/x?endpoint=http://h:1"), "'s3://b/x?endpoint=http://h:1'");
        assert_eq!(word(""), "''");
    }

    #[test]
    fn what_was_typed_is_in_each_command() {
        let mut given = Given::default();
        assert_eq!(given.put_into("make one with `snap init`"), "make one with `snap init`");
        given.add("--repo", "my repo");
        assert_eq!(
            given.put_into("go back:  snap restore 7f --in-place   look:  snap restore 7f"),
            "go back:  snap --repo 'my repo' restore 7f --in-place   look:  snap --repo 'my repo' restore 7f"
        );
        assert_eq!(
            given.put_into("with `snap init`, or a newer snap, or --repo"),
            "with `snap --repo 'my repo' init`, or a newer snap, or --repo"
        );
        given.add("--identity", "id");
        assert_eq!(given.put_into("snap repair --repo r --from x"), "snap --identity id repair --repo r --from x");
        assert_eq!(
            given.put_into("another snap is at work on oursnap list"),
            "another snap is at work on oursnap list"
        );
    }
}
