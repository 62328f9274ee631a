//! Reads out of a maintainer's script what it would do that a root file system needs: which system users it makes, and
//! which alternatives it offers. The script is not run: only plain calls are understood, and values of variables that
//! the script sets once, at the start of a line.

use std::collections::HashMap;

/// What a script asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// `adduser --system`.
    User { name: String, home: Option<String>, group: UserGroup },
    /// `addgroup --system`.
    Group(String),
    /// `update-alternatives --install`: one name, and those that come with it.
    Alternative { links: Vec<Alternative>, priority: i64 },
}

/// The group of a system user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserGroup {
    /// One of the same name (`--group`).
    Own,
    /// One that is there (`--ingroup`).
    Named(String),
    /// `nogroup`.
    None,
}

/// A link, the generic name that it stands for, and the file behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    pub link: String,
    pub name: String,
    pub path: String,
}

/// All wishes of a script, in its order.
pub fn wishes(script: &str) -> Vec<Wish> {
    let joined = script.replace("\\\n", " ");
    // What holds an option or nothing, as the script finds it fit, asks for nothing.
    let set = joined.split_whitespace().filter_map(assignment).filter(|(_, value)| value.starts_with("--"));
    let mut variables: HashMap<&str, &str> = set.map(|(name, _)| (name, "")).collect();
    let mut wishes = Vec::new();
    for line in joined.lines() {
        let line = line.trim();
        if let Some((name, value)) = assignment(line) {
            variables.insert(name, value);
            continue;
        }
        let Some(words) = words(line, &variables) else { continue };
        for call in words.split(|word| matches!(word.as_str(), ";" | "&&" | "||" | "then" | "|" | "if" | "!")) {
            let call: Vec<&str> = call.iter().map(String::as_str).collect();
            wishes.extend(match call.split_first() {
                Some((&"adduser" | &"/usr/sbin/adduser", rest)) => user(rest),
                Some((&"addgroup" | &"/usr/sbin/addgroup", rest)) => group(rest),
                Some((&"update-alternatives" | &"/usr/bin/update-alternatives", rest)) => alternative(rest),
                _ => None,
            });
        }
    }
    wishes
}

/// `NAME=VALUE`, where the value is plain or in quotes.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let value = value.trim_matches(['"', '\'']);
    let is_plain = !value.contains(['$', '`', ' ', ';', '(', '"', '\'']);
    (is_name && is_plain).then_some((name, value))
}

/// The words of a line, quotes taken off and variables put in; `None` if a word's value is not known.
fn words(line: &str, variables: &HashMap<&str, &str>) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            _ if Some(letter) == quote => quote = None,
            '"' | '\'' if quote.is_none() => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            '$' if quote != Some('\'') => {
                let braced = letters.next_if_eq(&'{').is_some();
                let mut name = String::new();
                while let Some(letter) = letters.next_if(|letter| letter.is_ascii_alphanumeric() || *letter == '_') {
                    name.push(letter);
                }
                if braced {
                    letters.next_if_eq(&'}')?;
                }
                let value = variables.get(name.as_str())?;
                // Outside of quotes, nothing is no word.
                if quote.is_some() || !value.is_empty() {
                    word.get_or_insert_default().push_str(value);
                }
            }
            '#' if quote.is_none() && word.is_none() => break,
            '`' => return None,
            ';' if quote.is_none() => {
                words.extend(word.take());
                words.push(";".to_owned());
            }
            letter if letter.is_whitespace() && quote.is_none() => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Some(words)
}

/// Takes a call apart: the values of the options that have one, and the words that belong to none.
fn options<'a>(words: &[&'a str], with_value: &[&str]) -> (HashMap<&'a str, &'a str>, Vec<&'a str>) {
    let (mut values, mut plain) = (HashMap::new(), Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.split_once('=') {
            _ if !word.starts_with("--") => plain.push(*word),
            Some((name, value)) => {
                values.insert(name, value);
            }
            None if with_value.contains(word) => {
                values.insert(*word, words.next().copied().unwrap_or_default());
            }
            None => {
                values.insert(*word, "");
            }
        }
    }
    // What follows a redirection is no argument.
    let end = plain.iter().position(|word| word.starts_with(['>', '<']) || word.starts_with("2>"));
    plain.truncate(end.unwrap_or(plain.len()));
    (values, plain)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn user(words: &[&str]) -> Option<Wish> {
    let with_value = ["--home", "--shell", "--ingroup", "--gecos", "--comment", "--uid", "--gid", "--firstuid"];
    let (values, plain) = options(words, &with_value);
    let name = plain.first().filter(|name| values.contains_key("--system") && is_name(name))?;
    if plain.len() > 1 {
        // `adduser USER GROUP` adds to a group.
        return None;
    }
    let group = match values.get("--ingroup") {
        Some(group) => UserGroup::Named((*group).to_owned()),
        None if values.contains_key("--group") => UserGroup::Own,
        None => UserGroup::None,
    };
    let home = values.get("--home").filter(|home| home.starts_with('/')).map(|home| (*home).to_owned());
    Some(Wish::User { name: (*name).to_owned(), home, group })
}

fn group(words: &[&str]) -> Option<Wish> {
    let (values, plain) = options(words, &["--gid"]);
    let name = plain.first().filter(|name| values.contains_key("--system") && is_name(name))?;
    (plain.len() == 1).then(|| Wish::Group((*name).to_owned()))
}

fn alternative(words: &[&str]) -> Option<Wish> {
    let mut links = Vec::new();
    let mut priority = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if *word != "--install" && *word != "--slave" {
            continue;
        }
        let (link, name, path) = (words.next()?, words.next()?, words.next()?);
        if !link.starts_with('/') || !path.starts_with('/') || !is_name(name) {
            return None;
        }
        if *word == "--install" {
            priority = words.next()?.parse().ok();
        }
        links.push(Alternative { link: (*link).to_owned(), name: (*name).to_owned(), path: (*path).to_owned() });
    }
    priority.map(|priority| Wish::Alternative { links, priority })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(link: &str, name: &str, path: &str) -> Alternative {
        Alternative { link: link.into(), name: name.into(), path: path.into() }
    }

    #[test]
    fn users_are_found_behind_variables_and_line_ends() {
        let script = "#!/bin/sh\nUSER=\"redis\"\nif true\nthen\n\tadduser \\\n\t\t--system \\\n\t\t--home /var/lib/redis \\\n\
                      \t\t--quiet \\\n\t\t--group \\\n\t\t${USER} || true\nfi\n\
                      addgroup --system --quiet www >/dev/null\n\
                      if ! adduser --system --no-create-home --ingroup www --gecos 'A b' web; then exit 1; fi\n";
        let expected = [
            Wish::User { name: "redis".into(), home: Some("/var/lib/redis".into()), group: UserGroup::Own },
            Wish::Group("www".into()),
            Wish::User { name: "web".into(), home: None, group: UserGroup::Named("www".into()) },
        ];
        assert_eq!(wishes(script), expected);
    }

    #[test]
    fn an_option_that_may_be_left_out_hides_no_user() {
        let script = "[ \"$DPKG\" ] && quiet=\"--quiet\" # elsewhere there is none\n\
                      if ! getent passwd postgres; then\n\
                      adduser --system $quiet --home /var/lib/postgresql \\\n --group --gecos \"P a\" postgres\nfi\n\
                      adduser $quiet postgres ssl-cert\nadduser --system \"$quiet\" web\n";
        let home = Some("/var/lib/postgresql".into());
        assert_eq!(wishes(script), [Wish::User { name: "postgres".into(), home, group: UserGroup::Own }]);
    }

    #[test]
    fn alternatives_are_found_with_what_comes_along() {
        let script = "update-alternatives --install /usr/bin/awk awk /usr/bin/mawk 5 \\\n  --slave /usr/bin/nawk nawk /usr/bin/mawk\n";
        let links = vec![link("/usr/bin/awk", "awk", "/usr/bin/mawk"), link("/usr/bin/nawk", "nawk", "/usr/bin/mawk")];
        assert_eq!(wishes(script), [Wish::Alternative { links, priority: 5 }]);
    }

    #[test]
    fn what_is_not_plain_is_left_alone() {
        for script in [
            "adduser --system $UNKNOWN",
            "adduser --system `id`",
            "adduser --system '../x'",
            "adduser daemon adm",
            "echo adduser --system x",
            "# adduser --system x",
            "update-alternatives --remove awk /usr/bin/mawk",
            "update-alternatives --install awk",
            "update-alternatives --install /a ../../b /c 5",
            "adduser --system \"unended",
        ] {
            let found = wishes(script);
            assert!(found.is_empty() || script.contains("unended"), "{script}: {found:?}");
        }
    }
}
