//! How structures are in protobuf: the numbers of fields, and which of upstream's structures JSON has flattened.

/// How a field is in protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Upstream has a pointer: the zero is sent if it was given. Other scalars and structures are always sent.
    pub pointer: bool,
    /// JSON has the zero of what is no pointer; else JSON leaves it out.
    pub zero_in_json: bool,
    /// What its type does not tell.
    pub form: Form,
}

/// The forms of messages that JSON does not have as objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As the field's type is.
    Plain,
    /// A list that is a message of its own: `ExtraValue`.
    Items,
    /// A schema or a list of schemas.
    SchemaOrArray,
    /// A schema or a truth value.
    SchemaOrBool,
    /// A schema or a list of texts.
    SchemaOrStrings,
}

/// A message: what it holds, in order of number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    entries: Vec<Entry>,
}

/// Something with a number in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub number: u32,
    /// What it is.
    pub target: Target,
}

/// What a number stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A field of the definition: its index in [`super::Definition::fields`].
    Field(usize),
    /// A message whose fields are those of the definition itself. It is always sent.
    Inline(Message),
}

impl Wire {
    /// Reads a place without its `=`: the numbers and the rest.
    pub(super) fn parse(text: &str) -> Result<(Vec<u32>, Self), String> {
        let (text, form) = match text.split_once(':') {
            None => (text, Form::Plain),
            Some((text, "items")) => (text, Form::Items),
            Some((text, "orarray")) => (text, Form::SchemaOrArray),
            Some((text, "orbool")) => (text, Form::SchemaOrBool),
            Some((text, "orstrings")) => (text, Form::SchemaOrStrings),
            Some((_, other)) => return Err(format!("unknown form {other}")),
        };
        let (text, pointer, zero_in_json) = match (text.strip_suffix('*'), text.strip_suffix('!')) {
            (Some(text), _) => (text, true, false),
            (_, Some(text)) => (text, false, true),
            _ => (text, false, false),
        };
        let number = |text: &str| text.parse().ok().filter(|n| (1..1 << 29).contains(n));
        let path: Option<Vec<u32>> = text.split('.').map(number).collect();
        Ok((path.ok_or_else(|| format!("no place: {text}"))?, Self { pointer, zero_in_json, form }))
    }
}

impl Message {
    /// In order of number.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What a number stands for.
    pub fn target(&self, number: u32) -> Option<&Target> {
        let found = self.entries.binary_search_by_key(&number, |e| e.number).ok();
        found.and_then(|index| self.entries.get(index)).map(|entry| &entry.target)
    }

    pub(super) fn insert(&mut self, path: &[u32], field: usize) -> Result<(), String> {
        let Some((&number, rest)) = path.split_first() else { return Err("no place".to_owned()) };
        let at = match self.entries.binary_search_by_key(&number, |e| e.number) {
            Ok(at) => at,
            Err(at) => {
                let target = if rest.is_empty() { Target::Field(field) } else { Target::Inline(Self::default()) };
                self.entries.insert(at, Entry { number, target });
                if rest.is_empty() {
                    return Ok(());
                }
                at
            }
        };
        match self.entries.get_mut(at).map(|entry| &mut entry.target) {
            Some(Target::Inline(message)) if !rest.is_empty() => message.insert(rest, field),
            _ => Err(format!("number {number} twice")),
        }
    }
}
