//! Reads the structures in upstream's Go files: which protobuf number a field has, whether it is a pointer, and which
//! structures are embedded. Only what `gofmt` makes of API types is understood.

use std::collections::{BTreeMap, BTreeSet};

use super::GenerateError;

/// The packages that were asked for, and those that they refer to.
pub(super) struct Packages<S> {
    sources: S,
    read: BTreeMap<String, Package>,
}

/// The structures of one Go package.
#[derive(Debug, Default)]
struct Package {
    /// Folders by the names under which they are imported.
    imports: BTreeMap<String, String>,
    /// Structures that are those of another package, with its import name: `type Rule = v1.Rule`.
    aliases: BTreeMap<String, (String, String)>,
    structures: BTreeMap<String, Vec<GoField>>,
    /// Lists that are messages of their own on the wire: `ExtraValue`, `Verbs`.
    messages: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct GoField {
    go_type: String,
    json: String,
    inline: bool,
    omitted_if_empty: bool,
    number: Option<u32>,
}

/// Where a field is on the wire.
#[derive(Debug)]
pub(super) struct Place {
    /// Its number, after those of the structures that are embedded around it.
    pub(super) path: Vec<u32>,
    /// Whether it is a pointer, so that its zero differs from its absence.
    pub(super) pointer: bool,
    /// Whether JSON leaves a zero out.
    pub(super) omitted_if_empty: bool,
    /// The last identifier of its Go type.
    pub(super) type_name: String,
    /// Whether the type is a list that is a message of its own.
    pub(super) message_list: bool,
}

impl<S: Fn(&str) -> std::io::Result<Vec<String>>> Packages<S> {
    pub(super) fn new(sources: S) -> Self {
        Self { sources, read: BTreeMap::new() }
    }

    fn package(&mut self, folder: &str) -> Result<&Package, GenerateError> {
        if !self.read.contains_key(folder) {
            let files = (self.sources)(folder).map_err(|e| GenerateError::Source(folder.to_owned(), e))?;
            let mut package = Package::default();
            for text in &files {
                package.file(text)?;
            }
            self.read.insert(folder.to_owned(), package);
        }
        self.read.get(folder).ok_or_else(|| GenerateError::Unknown(format!("Go package {folder}")))
    }

    /// The place of a JSON field; nothing if it is not on the wire, as `kind` and `apiVersion` are not.
    pub(super) fn place(&mut self, folder: &str, name: &str, json: &str) -> Result<Option<Place>, GenerateError> {
        let package = self.package(folder)?;
        // What has no API types, `version.Info`, is never on the wire.
        if package.structures.is_empty() {
            return Ok(None);
        }
        let unknown = || GenerateError::Unknown(format!("Go structure {folder}.{name}"));
        if let Some((import, target)) = package.aliases.get(name).cloned() {
            let folder = package.imports.get(&import).cloned().ok_or_else(unknown)?;
            return self.place(&folder, &target, json);
        }
        let fields = package.structures.get(name).cloned().ok_or_else(unknown)?;
        if let Some(field) = fields.iter().find(|f| f.json == json) {
            return Ok(field.number.map(|number| field.place(number, &package.messages)));
        }
        for inner in fields.iter().filter(|f| f.inline) {
            // Those without a number, such as `TypeMeta`, are not on the wire.
            let Some(number) = inner.number else { continue };
            if let Some(mut place) = self.place(folder, &inner.go_type, json)? {
                place.path.insert(0, number);
                return Ok(Some(place));
            }
        }
        Ok(None)
    }
}

impl GoField {
    fn place(&self, number: u32, messages: &BTreeSet<String>) -> Place {
        let type_name = last_identifier(&self.go_type);
        Place {
            path: vec![number],
            pointer: self.go_type.starts_with('*'),
            omitted_if_empty: self.omitted_if_empty,
            type_name: type_name.to_owned(),
            message_list: messages.contains(type_name),
        }
    }
}

impl Package {
    fn file(&mut self, text: &str) -> Result<(), GenerateError> {
        let mut lines = text.lines();
        let mut nullable = false;
        while let Some(line) = lines.next() {
            if line.starts_with("// +protobuf.nullable=true") {
                nullable = true;
                continue;
            }
            if let Some((name, folder)) = import(line) {
                self.imports.insert(name.to_owned(), folder.to_owned());
            }
            let Some((name, rest)) = line.strip_prefix("type ").and_then(|l| l.split_once(' ')) else { continue };
            if rest == "struct {" {
                let mut fields = Vec::new();
                for line in lines.by_ref().take_while(|line| *line != "}") {
                    fields.extend(field(line)?);
                }
                self.structures.insert(name.to_owned(), fields);
            } else if rest.starts_with("[]") && nullable {
                self.messages.insert(name.to_owned());
            } else if let Some((import, target)) = rest.trim_start_matches("= ").split_once('.') {
                self.aliases.insert(name.to_owned(), (import.to_owned(), target.to_owned()));
            }
            nullable = false;
        }
        Ok(())
    }
}

/// The name and the folder of an import of upstream's.
fn import(line: &str) -> Option<(&str, &str)> {
    let (name, path) = line.trim().trim_start_matches("import ").split_once('"')?;
    let folder = path.strip_suffix('"')?.strip_prefix("k8s.io/")?;
    let name = name.trim();
    Some((if name.is_empty() { folder.rsplit('/').next()? } else { name }, folder))
}

fn last_identifier(go_type: &str) -> &str {
    go_type.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(go_type)
}

fn tag<'a>(tags: &'a str, name: &str) -> Option<&'a str> {
    let rest = &tags[tags.find(&format!("{name}:\""))? + name.len() + 2..];
    rest.split('"').next()
}

/// One line of a structure; nothing if it is a comment or has no tags.
fn field(line: &str) -> Result<Option<GoField>, GenerateError> {
    let line = line.trim();
    let unknown = || GenerateError::Unknown(format!("Go field: {line}"));
    if line.starts_with("//") {
        return Ok(None);
    }
    let Some((head, tags)) = line.split_once('`') else { return Ok(None) };
    let Some(json) = tag(tags, "json") else { return Ok(None) };
    let mut options = json.split(',');
    let name = options.next().unwrap_or_default();
    let options: Vec<&str> = options.collect();
    let mut field = GoField {
        go_type: head.split_whitespace().last().ok_or_else(unknown)?.to_owned(),
        json: name.to_owned(),
        inline: options.contains(&"inline"),
        omitted_if_empty: options.contains(&"omitempty"),
        number: None,
    };
    if let Some(protobuf) = tag(tags, "protobuf").filter(|text| *text != "-") {
        // The wire type before the number is not always what is sent; the field's type tells.
        let number = protobuf.split(',').nth(1).and_then(|text| text.parse().ok()).ok_or_else(unknown)?;
        field.number = Some(number);
    }
    Ok(Some(field))
}
