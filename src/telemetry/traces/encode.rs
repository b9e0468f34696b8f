//! Spans as an `ExportTraceServiceRequest` of OTLP 1.x, in protobuf's wire format. Field numbers are those of
//! `opentelemetry/proto/trace/v1/trace.proto`; a test decodes what is sent here with the published types.

use super::{Span, Value};

/// A message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7f) as u8);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn fixed(&mut self, field: u64, value: u64) {
        self.varint(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    fn message(&mut self, field: u64, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(field, &inner.0);
    }

    fn attribute(&mut self, field: u64, key: &str, value: &Value) {
        self.message(field, |pair| {
            pair.bytes(1, key.as_bytes());
            pair.message(2, |any| match value {
                Value::Text(text) => any.bytes(1, text.as_bytes()),
                Value::Flag(flag) => any.number(2, u64::from(*flag)),
                Value::Number(number) => any.number(3, number.cast_unsigned()),
                Value::Fraction(number) => any.fixed(4, number.to_bits()),
            });
        });
    }
}

/// One request with all spans.
pub(super) fn request(resource: &[(String, String)], spans: &[Span]) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |resource_spans| {
        resource_spans.message(1, |message| {
            for (key, value) in resource {
                message.attribute(1, key, &Value::Text(value.clone()));
            }
        });
        resource_spans.message(2, |scope_spans| {
            scope_spans.message(1, |scope| {
                scope.bytes(1, env!("CARGO_PKG_NAME").as_bytes());
                scope.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
            });
            for span in spans {
                scope_spans.message(2, |message| fill(message, span));
            }
        });
    });
    request.0
}

fn fill(message: &mut Message, span: &Span) {
    const INTERNAL: u64 = 1;
    const CLIENT: u64 = 3;
    const ERROR: u64 = 2;
    message.bytes(1, &span.trace);
    message.bytes(2, &span.id);
    if let Some(parent) = &span.parent {
        message.bytes(4, parent);
    }
    message.bytes(5, span.name.as_bytes());
    message.number(6, if span.client { CLIENT } else { INTERNAL });
    message.fixed(7, span.start);
    message.fixed(8, span.end);
    for (key, value) in &span.attributes {
        message.attribute(9, key, value);
    }
    if let Some(error) = &span.error {
        message.message(15, |status| {
            status.bytes(2, error.as_bytes());
            status.number(3, ERROR);
        });
    }
}
