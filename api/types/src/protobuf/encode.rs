//! From JSON to the bytes that upstream writes: fields in order of number, maps in order of key, and what is no pointer
//! always, also if JSON has left it out.

use serde_json::{Map, Value};

use super::writer::Writer;
use super::{EncodeError, named, special};
use crate::schema::{Definition, DefinitionId, Field, Form, Message, Schema, Target, Type};

/// Writes objects of a schema's structures.
pub(super) struct Encoder<'s> {
    schema: &'s Schema,
    writer: Writer,
}

fn wrong(name: &str) -> EncodeError {
    EncodeError::Field(named(name))
}

impl<'s> Encoder<'s> {
    pub(super) fn new(schema: &'s Schema) -> Self {
        Self { schema, writer: Writer::with_capacity(1024) }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.writer.finish()
    }

    pub(super) fn structure(&mut self, id: DefinitionId, object: Option<&Value>) -> Result<(), EncodeError> {
        let definition = self.schema.definition(id);
        let object = match object {
            None | Some(Value::Null) => None,
            Some(Value::Object(object)) => Some(object),
            Some(_) => return Err(wrong(definition.short_name())),
        };
        self.message(definition, definition.message(), object)
    }

    fn message(
        &mut self,
        definition: &Definition,
        message: &Message,
        object: Option<&Map<String, Value>>,
    ) -> Result<(), EncodeError> {
        for entry in message.entries().iter().rev() {
            match &entry.target {
                Target::Inline(inner) => self.nested(entry.number, |e| e.message(definition, inner, object))?,
                Target::Field(index) => {
                    let Some(field) = definition.fields().get(*index) else { continue };
                    let value = object.and_then(|o| o.get(field.name.as_ref())).filter(|v| !v.is_null());
                    self.field(field, entry.number, value)?;
                }
            }
        }
        Ok(())
    }

    fn nested(
        &mut self,
        number: u32,
        write: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let before = self.writer.len();
        write(self)?;
        self.writer.close(number, self.writer.len() - before);
        Ok(())
    }

    fn field(&mut self, field: &Field, number: u32, value: Option<&Value>) -> Result<(), EncodeError> {
        let Some(wire) = field.wire else { return Ok(()) };
        let name = field.name.as_ref();
        match (field.field_type, value) {
            (Type::List(_), Some(value)) if wire.form == Form::Items => self.items(number, value, name),
            (Type::List(element), Some(value)) => {
                let element = self.schema.element(element);
                for value in value.as_array().ok_or_else(|| wrong(name))?.iter().rev() {
                    self.value(element, wire.form, number, Some(value), name)?;
                }
                Ok(())
            }
            (Type::Map(element), Some(value)) => {
                let element = self.schema.element(element);
                for (key, value) in value.as_object().ok_or_else(|| wrong(name))?.iter().rev() {
                    self.nested(number, |e| {
                        e.value(element, wire.form, 2, Some(value), name)?;
                        e.writer.field(1, key.as_bytes());
                        Ok(())
                    })?;
                }
                Ok(())
            }
            // A nil slice of bytes is not sent, an empty one is.
            (Type::List(_) | Type::Map(_) | Type::Bytes, None) => Ok(()),
            (_, None) if wire.pointer => Ok(()),
            (kind, value) => self.value(kind, wire.form, number, value, name),
        }
    }

    /// A single value; without one, the zero.
    fn value(
        &mut self,
        kind: Type,
        form: Form,
        number: u32,
        value: Option<&Value>,
        name: &str,
    ) -> Result<(), EncodeError> {
        let value = value.filter(|value| !value.is_null());
        let misfit = || wrong(name);
        match (kind, value) {
            (Type::Bool, value) => {
                let on = value.map_or(Some(false), Value::as_bool).ok_or_else(misfit)?;
                self.writer.varint_field(number, u64::from(on));
            }
            (Type::Int32 | Type::Int64, value) => {
                let whole = value.map_or(Some(0), Value::as_i64).ok_or_else(misfit)?;
                self.writer.varint_field(number, whole as u64);
            }
            (Type::Double, value) => {
                let double = value.map_or(Some(0.0), Value::as_f64).ok_or_else(misfit)?;
                self.writer.fixed64_field(number, double.to_bits());
            }
            (Type::String, value) => {
                let text = value.map_or(Some(""), Value::as_str).ok_or_else(misfit)?;
                self.writer.field(number, text.as_bytes());
            }
            (Type::Bytes, value) => {
                let text = value.map_or(Some(""), Value::as_str).ok_or_else(misfit)?;
                let bytes = special::bytes_of(text).ok_or_else(misfit)?;
                self.writer.field(number, &bytes);
            }
            (Type::List(_), Some(value)) if form == Form::Items => self.items(number, value, name)?,
            (Type::List(_), None) if form == Form::Items => self.writer.field(number, b""),
            (Type::List(_) | Type::Map(_), _) => return Err(misfit()),
            (kind, value) => self.nested(number, |e| e.content(kind, form, value, name))?,
        }
        Ok(())
    }

    /// What is in a message.
    fn content(&mut self, kind: Type, form: Form, value: Option<&Value>, name: &str) -> Result<(), EncodeError> {
        let misfit = || wrong(name);
        match (kind, value) {
            (Type::Struct(id), value) => self.structure(id, value)?,
            (Type::Time | Type::MicroTime, Some(value)) => {
                let micro = kind == Type::MicroTime;
                let parts = value.as_str().and_then(|text| special::time_parts(text, micro)).ok_or_else(misfit)?;
                special::write_time(&mut self.writer, parts);
            }
            (Type::Quantity, value) => {
                let text = value.map_or(Some("0"), Value::as_str).ok_or_else(misfit)?;
                self.writer.field(1, text.as_bytes());
            }
            (Type::IntOrString, value) => {
                let value = value.unwrap_or(&Value::Null);
                let zero = Value::from(0);
                let value = if value.is_null() { &zero } else { value };
                special::write_int_or_string(&mut self.writer, value).ok_or_else(misfit)?;
            }
            (Type::Any | Type::Object, Some(value)) if form == Form::Plain => {
                let json = serde_json::to_vec(value).map_err(|_| misfit())?;
                self.writer.field(1, &json);
            }
            (Type::Any | Type::Object, Some(value)) => self.schema_or(form, value, name)?,
            _ => {}
        }
        Ok(())
    }

    fn items(&mut self, number: u32, value: &Value, name: &str) -> Result<(), EncodeError> {
        let items = value.as_array().ok_or_else(|| wrong(name))?;
        self.nested(number, |e| {
            items.iter().rev().try_for_each(|item| e.value(Type::String, Form::Plain, 1, Some(item), name))
        })
    }

    /// A schema, or what may be in its place.
    fn schema_or(&mut self, form: Form, value: &Value, name: &str) -> Result<(), EncodeError> {
        let id = self.schema.by_name(special::JSON_SCHEMA).ok_or_else(|| wrong(name))?;
        match (form, value) {
            (Form::SchemaOrBool, Value::Bool(allows)) => self.writer.varint_field(1, u64::from(*allows)),
            (Form::SchemaOrBool, Value::Object(_)) => {
                self.nested(2, |e| e.structure(id, Some(value)))?;
                self.writer.varint_field(1, 1);
            }
            (Form::SchemaOrArray | Form::SchemaOrStrings, Value::Object(_)) => {
                self.nested(1, |e| e.structure(id, Some(value)))?;
            }
            (Form::SchemaOrArray, Value::Array(list)) => {
                for value in list.iter().rev() {
                    self.nested(2, |e| e.structure(id, Some(value)))?;
                }
            }
            (Form::SchemaOrStrings, Value::Array(list)) => {
                for value in list.iter().rev() {
                    self.value(Type::String, Form::Plain, 2, Some(value), name)?;
                }
            }
            _ => return Err(wrong(name)),
        }
        Ok(())
    }
}
