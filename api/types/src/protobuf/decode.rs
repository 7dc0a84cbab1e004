//! From bytes to JSON, by the numbers of the schema.

use serde_json::{Map, Value};

use super::reader::{Payload, Reader};
use super::{DecodeError, named, special};
use crate::schema::{Definition, DefinitionId, Field, Form, Message, Schema, Target, Type};

/// As deep as JSON may be.
const DEPTH_MAX: usize = 128;

/// Reads objects of a schema's structures.
#[derive(Clone, Copy)]
pub(super) struct Decoder<'s> {
    schema: &'s Schema,
    depth: usize,
}

/// What is or will be in an object under a name: every field has one type, so nothing else can be there.
fn object_in<'m>(into: &'m mut Map<String, Value>, name: &str) -> Option<&'m mut Map<String, Value>> {
    into.entry(name).or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}

impl<'s> Decoder<'s> {
    pub(super) const fn new(schema: &'s Schema) -> Self {
        Self { schema, depth: 0 }
    }

    fn deeper(self) -> Result<Self, DecodeError> {
        if self.depth == DEPTH_MAX {
            return Err(DecodeError::Deep);
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    /// Reads into an object, which may hold what came before: messages that come twice are merged.
    pub(super) fn structure(
        self,
        id: DefinitionId,
        raw: &[u8],
        into: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        let definition = self.schema.definition(id);
        self.deeper()?.message(definition, definition.message(), raw, into)
    }

    fn message(
        self,
        definition: &Definition,
        message: &Message,
        raw: &[u8],
        into: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        let mut reader = Reader::new(raw);
        while let Some((number, payload)) = reader.next()? {
            match message.target(number) {
                // As upstream, what is not known is passed over.
                None => {}
                Some(Target::Inline(inner)) => {
                    self.deeper()?.message(definition, inner, payload.bytes(definition.short_name())?, into)?;
                }
                Some(Target::Field(index)) => {
                    let field = definition.fields().get(*index);
                    field.map_or(Ok(()), |field| self.field(field, payload, into))?;
                }
            }
        }
        Ok(())
    }

    fn field(self, field: &Field, payload: Payload<'_>, into: &mut Map<String, Value>) -> Result<(), DecodeError> {
        let Some(wire) = field.wire else { return Ok(()) };
        let name = field.name.as_ref();
        match field.field_type {
            Type::List(_) if wire.form == Form::Items => {
                into.insert(name.to_owned(), special::read_items(payload.bytes(name)?, name)?);
            }
            Type::List(element) => {
                let list = into.entry(name).or_insert_with(|| Value::Array(Vec::new())).as_array_mut();
                let Some(list) = list else { return Ok(()) };
                self.element(self.schema.element(element), wire.form, payload, name, list)?;
            }
            Type::Map(element) => {
                let (key, value) = self.entry(self.schema.element(element), wire.form, payload.bytes(name)?, name)?;
                if let Some(map) = object_in(into, name) {
                    map.insert(key, value);
                }
            }
            Type::Struct(id) => {
                let raw = payload.bytes(name)?;
                object_in(into, name).map_or(Ok(()), |object| self.structure(id, raw, object))?;
            }
            kind => {
                let value = self.value(kind, wire.form, payload, name)?;
                let kept = value.filter(|value| wire.pointer || wire.zero_in_json || !is_zero(kind, value));
                match kept {
                    Some(value) => into.insert(name.to_owned(), value),
                    None => into.remove(name),
                };
            }
        }
        Ok(())
    }

    /// Upstream takes numbers packed together too.
    fn element(
        self,
        kind: Type,
        form: Form,
        payload: Payload<'_>,
        name: &str,
        list: &mut Vec<Value>,
    ) -> Result<(), DecodeError> {
        match (kind, payload) {
            (Type::Bool | Type::Int32 | Type::Int64, Payload::Bytes(packed)) => {
                let mut reader = Reader::new(packed);
                while !reader.is_empty() {
                    let number = Payload::Varint(reader.varint()?);
                    list.push(self.value(kind, form, number, name)?.unwrap_or_default());
                }
            }
            _ => list.push(self.value(kind, form, payload, name)?.unwrap_or_default()),
        }
        Ok(())
    }

    fn entry(self, kind: Type, form: Form, raw: &[u8], name: &str) -> Result<(String, Value), DecodeError> {
        let (mut key, mut value) = (String::new(), None);
        let mut reader = Reader::new(raw);
        while let Some((number, payload)) = reader.next()? {
            match number {
                1 => key = payload.text(name)?,
                2 => value = Some(self.value(kind, form, payload, name)?.unwrap_or_default()),
                _ => {}
            }
        }
        Ok((key, value.unwrap_or_else(|| special::zero(kind))))
    }

    /// A single value; nothing for what JSON has as null.
    fn value(self, kind: Type, form: Form, payload: Payload<'_>, name: &str) -> Result<Option<Value>, DecodeError> {
        let object = |id| {
            let mut object = Map::new();
            self.structure(id, payload.bytes(name)?, &mut object).map(|()| Value::Object(object))
        };
        Ok(match kind {
            Type::Bool => Some((payload.varint(name)? != 0).into()),
            Type::String => Some(payload.text(name)?.into()),
            // The lower bits count, as upstream reads them.
            Type::Int32 => Some((payload.varint(name)? as i32).into()),
            Type::Int64 => Some((payload.varint(name)? as i64).into()),
            Type::Double => Some(special::read_double(payload.fixed64(name)?, name)?),
            Type::Bytes => Some(special::read_bytes(payload.bytes(name)?)),
            Type::Time | Type::MicroTime => {
                special::read_time(payload.bytes(name)?, kind == Type::MicroTime, name)?.map(Value::String)
            }
            Type::Quantity => Some(special::read_quantity(payload.bytes(name)?, name)?),
            Type::IntOrString => Some(special::read_int_or_string(payload.bytes(name)?, name)?),
            Type::Any | Type::Object if form == Form::Plain => special::read_raw(payload.bytes(name)?, name)?,
            Type::Any | Type::Object => self.schema_or(form, payload.bytes(name)?, name)?,
            Type::Struct(id) => Some(object(id)?),
            Type::List(_) if form == Form::Items => Some(special::read_items(payload.bytes(name)?, name)?),
            Type::List(_) | Type::Map(_) => return Err(DecodeError::Value("list of lists", named(name))),
        })
    }

    /// A schema, or what may be in its place.
    fn schema_or(self, form: Form, raw: &[u8], name: &str) -> Result<Option<Value>, DecodeError> {
        let Some(id) = self.schema.by_name(special::JSON_SCHEMA) else { return Ok(None) };
        let (mut allows, mut one, mut list) = (false, None, Vec::new());
        let schema_number = if form == Form::SchemaOrBool { 2 } else { 1 };
        let mut reader = Reader::new(raw);
        while let Some((number, payload)) = reader.next()? {
            if number == schema_number {
                let mut object = Map::new();
                self.structure(id, payload.bytes(name)?, &mut object)?;
                one = Some(Value::Object(object));
                continue;
            }
            match (form, number) {
                (Form::SchemaOrBool, 1) => allows = payload.varint(name)? != 0,
                (Form::SchemaOrStrings, 2) => list.push(payload.text(name)?.into()),
                (Form::SchemaOrArray, 2) => {
                    let mut object = Map::new();
                    self.structure(id, payload.bytes(name)?, &mut object)?;
                    list.push(Value::Object(object));
                }
                _ => {}
            }
        }
        if !list.is_empty() {
            return Ok(Some(Value::Array(list)));
        }
        Ok(one.or_else(|| (form == Form::SchemaOrBool).then_some(Value::Bool(allows))))
    }
}

/// Whether JSON leaves a value out that is no pointer and may be left out.
fn is_zero(kind: Type, value: &Value) -> bool {
    match (kind, value) {
        (Type::String | Type::Bytes, Value::String(text)) => text.is_empty(),
        (Type::Bool, Value::Bool(on)) => !on,
        (Type::Int32 | Type::Int64, Value::Number(n)) => n.as_i64() == Some(0),
        (Type::Double, Value::Number(n)) => n.as_f64() == Some(0.0),
        _ => false,
    }
}
