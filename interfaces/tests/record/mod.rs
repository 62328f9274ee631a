//! What is recorded of an interface, as the TOML files of `schema/` hold it.

pub mod rules;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tessera_runtime::transport::schema::{Answer, Argument, Description, Schema};

/// An interface. Types are written as in Rust; what a named one consists of stands below.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    pub interface: String,
    #[serde(default, rename = "method")]
    pub methods: Vec<Method>,
    /// Structs: their fields, in order.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub structs: BTreeMap<String, Vec<String>>,
    /// Enums: their variants' numbers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub enums: BTreeMap<String, BTreeMap<String, i64>>,
    /// Errors: their variants' numbers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub errors: BTreeMap<String, BTreeMap<String, i64>>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Method {
    pub number: u32,
    pub name: String,
    pub arguments: Vec<String>,
    pub answer: String,
    pub error: String,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub fills: bool,
}

impl Record {
    /// What is to be recorded of an interface.
    pub fn of(schema: &Schema) -> Record {
        let mut record = Record {
            interface: schema.name.into(),
            methods: Vec::new(),
            structs: BTreeMap::new(),
            enums: BTreeMap::new(),
            errors: BTreeMap::new(),
        };
        for method in schema.methods {
            let arguments = method.arguments.iter().map(|(name, argument)| {
                let kind = match argument {
                    Argument::Value(value) => record.kind(value),
                    Argument::Read(element) => format!("&[{}]", record.kind(element)),
                    Argument::Write(element) => format!("&mut [{}]", record.kind(element)),
                    Argument::Text => "&str".into(),
                };
                format!("{name}: {kind}")
            });
            let arguments = arguments.collect();
            let answer = match &method.answer {
                Answer::Value(value) => record.kind(value),
                Answer::Bytes(bound) => format!("Vec<u8> of at most {bound}"),
                Answer::Text(bound) => format!("String of at most {bound}"),
            };
            let (error, variants) = method.error;
            let variants = variants.iter().map(|(name, number)| ((*name).into(), i64::from(*number)));
            record.errors.insert(error.into(), variants.collect());
            record.methods.push(Method {
                number: method.number,
                name: method.name.into(),
                arguments,
                answer,
                error: error.into(),
                fills: method.fills,
            });
        }
        record.methods.sort_by_key(|method| method.number);
        record
    }

    /// A type's name; what it consists of is added to the record.
    fn kind(&mut self, description: &Description) -> String {
        match description {
            Description::Unit => "()".into(),
            Description::Scalar(name) | Description::Object(name) => (*name).into(),
            Description::Array(element, count) => format!("[{}; {count}]", self.kind(element)),
            Description::Option(value) => format!("Option<{}>", self.kind(value)),
            Description::Tuple(values) => {
                let values: Vec<String> = values.iter().map(|value| self.kind(value)).collect();
                format!("({})", values.join(", "))
            }
            Description::Struct(name, fields) => {
                let fields = fields.iter().map(|(field, kind)| format!("{field}: {}", self.kind(kind))).collect();
                self.structs.insert((*name).into(), fields);
                (*name).into()
            }
            Description::Enum(name, variants) => {
                let variants = variants.iter().map(|(variant, number)| ((*variant).into(), *number as i64)).collect();
                self.enums.insert((*name).into(), variants);
                (*name).into()
            }
            Description::Cap(interface) => format!("Cap<dyn {interface}>"),
        }
    }

    pub fn read(text: &str) -> Record {
        toml::from_str(text).unwrap_or_else(|error| panic!("a record cannot be read: {error}"))
    }

    pub fn write(&self) -> String {
        let head = "# Recorded from the source by `BLESS=1 cargo test -p tessera-interfaces --test schema`.\n";
        format!("{head}{}", toml::to_string(self).expect("a record can be written"))
    }
}
